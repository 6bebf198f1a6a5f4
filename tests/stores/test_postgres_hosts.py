"""A database with several hosts, of which one is silent, a standby or unknown; and hosts that the environment names."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from headgate import AsyncLimiter, Limiter
from headgate.errors import StoreOutage
from headgate.stores.postgres import PostgresStore
from headgate.stores.postgres.address import Hosts
from tests.postgres_servers import OwnPostgres, own_postgres

NO_NAME = "n" * 64
"""No host has such a name, and nobody needs to be asked for it."""


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres(16) as own:
        yield own


@pytest.fixture(scope="module")
def standby() -> Iterator[int]:
    """The port of a server that answers, and refuses to write."""
    with own_postgres(16) as own:
        PostgresStore(own.url, timeout=20)._server.install()
        own.stop()
        own.start("default_transaction_read_only=on")
        yield own.port


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def store_of(hosts: str, prefix: str, timeout: float) -> PostgresStore:
    return PostgresStore(f"postgresql://postgres@{hosts}/postgres", prefix=prefix, timeout=timeout, breaker=False)


async def outcomes(store: PostgresStore, calls: int, *, is_async: bool) -> list[str]:
    """What came of so many calls, one after the other."""
    blocking = Limiter("10/day", store=store, on_outage="raise")
    awaiting = AsyncLimiter("10/day", store=store, on_outage="raise")
    found: list[str] = []
    for _ in range(calls):
        try:
            decision = await awaiting.try_acquire("k") if is_async else blocking.try_acquire("k")
            found.append(str(decision.remaining))
        except StoreOutage as outage:
            found.append(str(outage))
    await store.aclose()
    store.close()
    return found


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.parametrize(
    ("of_no_use", "timeout", "problem"), [("silent", 1, "no answer within 1 s"), ("standby", 20, "it is read-only")]
)
async def test_a_host_that_is_of_no_use_is_tried_last_from_then_on(
    server: OwnPostgres,
    prefix: str,
    request: pytest.FixtureRequest,
    of_no_use: str,
    timeout: float,
    problem: str,
    is_async: bool,
) -> None:
    port = request.getfixturevalue(of_no_use)
    store = store_of(f"127.0.0.1:{port},127.0.0.1:{server.port}", prefix, timeout)
    first, *others = await outcomes(store, 3, is_async=is_async)
    assert problem in first
    assert others == ["9", "8"]


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])
async def test_a_host_that_is_not_known_leaves_the_others_be(server: OwnPostgres, prefix: str, is_async: bool) -> None:
    hosts = f"{NO_NAME}:1,127.0.0.1:{server.port}"
    assert await outcomes(store_of(hosts, prefix, 20), 2, is_async=is_async) == ["9", "8"]
    (alone,) = await outcomes(store_of(NO_NAME, prefix, 20), 1, is_async=is_async)
    assert "it cannot be reached" in alone


def test_whoever_was_late_last_is_tried_last() -> None:
    hosts = Hosts()
    parameters = {"host": "one,two,three,one", "port": "1,2,3,4", "dbname": "app"}
    assert hosts.in_order(parameters) == parameters
    for host, port in (("one", "1"), ("three", "3"), ("one", "1")):
        hosts.avoid(host, port)
    assert hosts.in_order(parameters) == {"host": "two,one,three,one", "port": "2,4,3,1", "dbname": "app"}
    hosts.avoid("two", "5432")
    assert hosts.in_order({"host": "two,four"}) == {"host": "four,two", "port": "5432,5432"}
    with_addresses = {"host": "two,four", "hostaddr": "10.0.0.2,10.0.0.4", "port": ","}
    assert hosts.in_order(with_addresses) == {"host": "four,two", "hostaddr": "10.0.0.4,10.0.0.2", "port": ","}
    assert hosts.in_order({"dbname": "app"}) == {"dbname": "app"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://", "postgresql://db.example:6000/shop"),
        ("postgresql:///other", "postgresql://db.example:6000/other"),
        ("postgresql://here/", "postgresql://here:6000/shop"),
        ("postgresql://?hostaddr=10.0.0.1&port=1", "postgresql://10.0.0.1:1/shop"),
        ("postgresql://?service=main", "postgresql://localhost:5432/"),
    ],
)
def test_a_database_that_the_environment_names_is_called_by_that(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (("PGHOST", "db.example"), ("PGPORT", "6000"), ("PGDATABASE", "shop")):
        monkeypatch.setenv(variable, value)
    assert PostgresStore(url).name == name

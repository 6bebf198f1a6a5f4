"""Pools of a user's: what they hand out that is of no use, and what they do without a look at the deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from headgate import AsyncLimiter, Limiter
from headgate.errors import StoreOutage
from headgate.stores.postgres import PostgresStore
from tests.parts import lacks
from tests.postgres_servers import OwnPostgres, own_postgres
from tests.servers import PATIENCE, eventually

try:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool
except ModuleNotFoundError:
    lacks("psycopg-pool", "`pip install psycopg-pool` installs it")


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres(16) as own:
        yield own


def limiter_of(pool: Any, prefix: str, timeout: float = PATIENCE, **options: Any) -> Limiter:
    store = PostgresStore(pool=pool, prefix=prefix, timeout=timeout, breaker=False)
    return Limiter("10/day", store=store, on_outage="raise", **options)


def async_limiter_of(pool: Any, prefix: str, timeout: float = PATIENCE) -> AsyncLimiter:
    store = PostgresStore(pool=pool, prefix=prefix, timeout=timeout, breaker=False)
    return AsyncLimiter("10/day", store=store, on_outage="raise")


def end_all(server: OwnPostgres) -> None:
    """Terminate all others' backends, and wait until they are gone."""
    others = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    with server.admin() as admin:
        admin.execute(f"select pg_terminate_backend(pid) {others}")
        eventually(lambda: admin.execute(f"select count(*) {others}").fetchone() == (0,), "they are gone")


def test_connections_that_were_ended_while_idle_are_not_noticed(server: OwnPostgres, prefix: str) -> None:
    with ConnectionPool(server.url, min_size=3, max_size=3, open=True) as pool:
        pool.wait(PATIENCE)
        limiter = limiter_of(pool, prefix)
        limiter.try_acquire("k")
        end_all(server)
        assert [limiter.try_acquire("k").remaining for _ in range(4)] == [8, 7, 6, 5]


async def test_those_of_an_asyncio_pool_are_not_noticed_either(server: OwnPostgres, prefix: str) -> None:
    async with AsyncConnectionPool(server.url, min_size=3, max_size=3) as pool:
        await pool.wait(PATIENCE)
        limiter = async_limiter_of(pool, prefix)
        await limiter.try_acquire("k")
        await asyncio.to_thread(end_all, server)
        assert [(await limiter.try_acquire("k")).remaining for _ in range(4)] == [8, 7, 6, 5]


def leave_open(connection: psycopg.Connection[Any]) -> None:
    """A check that forgets to commit."""
    connection.execute("select 1")


async def leave_open_async(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("select 1")


def test_a_connection_in_a_transaction_is_refused_since_every_spend_would_be_rolled_back(
    server: OwnPostgres, prefix: str
) -> None:
    with ConnectionPool(server.url, min_size=1, max_size=1, open=True, check=leave_open) as pool:
        limiter = limiter_of(pool, prefix)
        for _ in range(3):
            with pytest.raises(StoreOutage, match=r"in the middle of a transaction.* has to commit"):
                limiter.try_acquire("k")
        with pool.connection(timeout=PATIENCE) as connection:
            connection.execute("select 1")


async def test_so_is_one_of_an_asyncio_pool(server: OwnPostgres, prefix: str) -> None:
    async with AsyncConnectionPool(server.url, min_size=1, max_size=1, check=leave_open_async) as pool:
        limiter = async_limiter_of(pool, prefix)
        for _ in range(3):
            with pytest.raises(StoreOutage, match=r"in the middle of a transaction.* has to commit"):
                await limiter.try_acquire("k")
        async with pool.connection(timeout=PATIENCE) as connection:
            await connection.execute("select 1")


@pytest.mark.parametrize(
    "make",
    [
        lambda url: ConnectionPool(url, min_size=2, max_size=2, open=True, check=ConnectionPool.check_connection),
        lambda url: NullConnectionPool(url, max_size=2, open=True),
    ],
    ids=["with a check", "of nothing"],
)
def test_a_pool_that_asks_a_server_that_hangs_keeps_nobody(prefix: str, make: Callable[[str], ConnectionPool]) -> None:
    with own_postgres(16) as server, make(server.url) as pool:
        limiter_of(pool, prefix).try_acquire("k")
        limiter = limiter_of(pool, prefix, timeout=0.2)
        outages: list[StoreOutage] = []

        def ask() -> None:
            for _ in range(3):
                with pytest.raises(StoreOutage) as raised:
                    limiter.try_acquire("k")
                outages.append(raised.value)

        server.freeze()
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(PATIENCE)
        is_kept = asking.is_alive()
        server.thaw()
        assert not is_kept
        assert "no answer within 0.2 s" in str(outages[0])
        patient = limiter_of(pool, prefix)
        with pool.connection(PATIENCE), pool.connection(PATIENCE):
            pass  # whatever was handed out too late has gone back
        assert patient.try_acquire("k").remaining <= 8


def test_a_pool_that_is_used_up_or_cannot_connect_says_so(prefix: str) -> None:
    with own_postgres(16) as server, ConnectionPool(server.url, min_size=1, max_size=1, open=True) as pool:
        limiter = limiter_of(pool, prefix, timeout=0.1)
        with pool.connection(), pytest.raises(StoreOutage, match="all are in use, or it cannot connect"):
            limiter.try_acquire("k")
        server.stop()
        with pytest.raises(StoreOutage, match="all are in use, or it cannot connect"):
            limiter.try_acquire("k")


async def test_an_asyncio_pool_that_is_used_up_says_so(server: OwnPostgres, prefix: str) -> None:
    async with AsyncConnectionPool(server.url, min_size=1, max_size=1) as pool:
        limiter = async_limiter_of(pool, prefix, timeout=0.1)
        async with pool.connection():
            with pytest.raises(StoreOutage, match="all are in use, or it cannot connect"):
                await limiter.try_acquire("k")

"""The PostgreSQL store beside the transaction that everybody writes first: SELECT ... FOR UPDATE, UPDATE, COMMIT.

    python -m benchmarks.postgres [--seconds 5] [--rounds 3]

It starts a server with full durability (fsync, synchronous commit), and runs the contenders in turn, a slice each, for
some rounds. Printed are decisions per second: the median of the rounds, and how many times the naive transaction that
is.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

import psycopg
from tests.postgres_servers import OwnPostgres, own_postgres

from headgate import AsyncLimiter, TokenBucket
from headgate.hits import Group, Hit
from headgate.stores.postgres import PostgresStore

DURABLE: Final = (
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=128MB",
    "max_connections=200",
)
KEYS: Final = 20_000
LIMIT: Final = TokenBucket(10**9, 1)  # it admits all, so that each decision is written
BATCH: Final = 256
CONNECTIONS: Final = 8

Slice = Callable[[float], int]
"""Decides for so many seconds; how often?"""


def store_of(url: str, *, unlogged: bool = False, **options: Any) -> PostgresStore:
    schema = "headgate_unlogged" if unlogged else "headgate"
    return PostgresStore(url, schema=schema, unlogged=unlogged, timeout=10, breaker=False, **options)


def batches(url: str, *, unlogged: bool, keys: int) -> Slice:
    """One thread that sends batches of single hits."""
    store = store_of(url, unlogged=unlogged)
    names = [f"user:{number}" for number in range(keys)]

    def run(seconds: float) -> int:
        done, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            groups = [Group((Hit(LIMIT, random.choice(names), "batches"),)) for _ in range(BATCH)]
            store.decide(groups)
            done += BATCH
        return done

    return run


def tasks(url: str, *, unlogged: bool, keys: int, count: int) -> Slice:
    """One event loop, with so many tasks that each ask for one hit after the other."""

    def run(seconds: float) -> int:
        return asyncio.run(asking(seconds))

    async def asking(seconds: float) -> int:
        async with AsyncLimiter(
            LIMIT, store=store_of(url, unlogged=unlogged), name="tasks", on_outage="raise"
        ) as limiter:
            until, done = time.perf_counter() + seconds, 0

            async def ask(task: int) -> None:
                nonlocal done
                number = task
                while time.perf_counter() < until:
                    number = (number + count) % keys
                    await limiter.try_acquire(f"user:{number}")
                    done += 1

            await asyncio.gather(*map(ask, range(count)))
            await limiter._store.aclose()
            return done

    return run


def _naive_once(connection: psycopg.Connection[Any], key: str) -> None:
    with connection.transaction():
        row = connection.execute(
            "select tat, (extract(epoch from clock_timestamp()) * 1000000)::bigint from naive "
            "where key = %s for update",
            [key],
        ).fetchone()
        assert row is not None
        tat, now = row
        connection.execute("update naive set tat = %s where key = %s", [max(tat, now) + 1, key])


def _asker(kind: str, url: str, keys: int) -> Callable[[int], object]:
    if kind == "naive":
        connection = psycopg.connect(url, autocommit=True)
        return lambda number: _naive_once(connection, f"user:{number % keys}")
    store = store_of(url, unlogged=kind == "unlogged", coalesce=False, max_connections=CONNECTIONS)
    return lambda number: store.decide([Group((Hit(LIMIT, f"user:{number % keys}", "singles"),))])


def _worker(kind: str, url: str, keys: int, pipe: Any) -> None:
    ask = _asker(kind, url, keys)
    ask(0)
    pipe.send(0)
    with suppress(EOFError):  # the parent has ended
        _run_slices(ask, keys, pipe)


def _run_slices(ask: Callable[[int], object], keys: int, pipe: Any) -> None:
    while True:
        seconds = pipe.recv()
        done, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            ask(random.randrange(keys))
            done += 1
        pipe.send(done)


def processes(kind: str, url: str, keys: int) -> Slice:
    """Processes with a connection each, which ask for one hit after the other."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(CONNECTIONS):
        ours, theirs = context.Pipe()
        context.Process(target=_worker, args=(kind, url, keys, theirs), daemon=True).start()
        ours.recv()
        pipes.append(ours)

    def run(seconds: float) -> int:
        for pipe in pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in pipes)

    return run


def threads(kind: str, url: str, keys: int) -> Slice:
    """One process, of `CONNECTIONS` threads with a connection each."""
    first = _asker(kind, url, keys)
    askers = [_asker(kind, url, keys) if kind == "naive" else first for _ in range(CONNECTIONS)]

    def run(seconds: float) -> int:
        until = time.perf_counter() + seconds

        def ask(own: Callable[[int], object]) -> int:
            done = 0
            while time.perf_counter() < until:
                own(random.randrange(keys))
                done += 1
            return done

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(ask, askers))

    return run


def hot_row_bytes(server: OwnPostgres, updates: int) -> tuple[int, int]:
    """The bytes of the table and its index after so many updates of one row, by hits of one key, one after the
    other.
    """
    store = store_of(server.url)
    store.decide([Group((Hit(LIMIT, "hot", "growth"),))])
    with server.admin() as admin:
        admin.execute("truncate headgate.state")
        for _ in range(updates // BATCH // 4):
            for _ in range(4):  # each call is one update of the row, however many hits it has
                store.decide([Group((Hit(LIMIT, "hot", "growth"),))] * BATCH)
        for _ in range(updates // 10):
            store.decide([Group((Hit(LIMIT, "hot", "growth"),))])
        row = admin.execute("select pg_table_size('headgate.state'), pg_indexes_size('headgate.state')").fetchone()
    assert row is not None
    return row[0], row[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int, default=16)
    parser.add_argument("--only", default="", help="contenders whose name has this, and the naive ones")
    arguments = parser.parse_args()
    with own_postgres(arguments.version, *DURABLE) as server:
        with server.admin() as admin:
            admin.execute("create table naive (key text primary key, tat bigint) with (fillfactor = 50)")
            admin.execute("insert into naive select 'user:' || n, 0 from generate_series(0, %s) as n", [KEYS])
        for unlogged in (False, True):
            store_of(server.url, unlogged=unlogged).decide([Group((Hit(LIMIT, "k", "warm"),))])
        url = server.url
        contenders: list[tuple[str, str, Callable[[], Slice]]] = []
        for keys, count in (("different keys", KEYS), ("one key", 1)):
            contenders += [
                (f"{keys}, one process", "naive, 8 threads", partial(threads, "naive", url, count)),
                (f"{keys}, one process", "single calls, 8 threads, logged", partial(threads, "logged", url, count)),
                (f"{keys}, one process", "single calls, 8 threads, unlogged", partial(threads, "unlogged", url, count)),
            ]
            for unlogged, word in ((False, "logged"), (True, "unlogged")):
                batch = partial(batches, url, unlogged=unlogged, keys=count)
                tasking = partial(tasks, url, unlogged=unlogged, keys=count, count=512)
                contenders += [
                    (f"{keys}, one process", f"batches of {BATCH}, {word}", batch),
                    (f"{keys}, one process", f"512 tasks, {word}", tasking),
                ]
            contenders += [
                (f"{keys}, 8 processes", "naive", partial(processes, "naive", url, count)),
                (f"{keys}, 8 processes", "single calls, logged", partial(processes, "logged", url, count)),
                (f"{keys}, 8 processes", "single calls, unlogged", partial(processes, "unlogged", url, count)),
            ]
        chosen = [
            (keys, name, make())
            for keys, name, make in contenders
            if name.startswith("naive") or arguments.only in f"{keys}, {name}"
        ]
        found: list[list[float]] = [[] for _ in chosen]
        for _ in range(arguments.rounds):
            for (_, _, run), rates in zip(chosen, found, strict=True):
                began = time.perf_counter()
                rates.append(run(arguments.seconds) / (time.perf_counter() - began))
        python = platform.python_version()
        print(f"{os.cpu_count()} CPUs, {platform.machine()}, Python {python}, PostgreSQL {arguments.version}")
        base: dict[str, float] = {}
        for (keys, name, _), rates in zip(chosen, found, strict=True):
            rate = statistics.median(rates)
            if name.startswith("naive"):
                base[keys] = max(rate, base.get(keys, 0.0))
            print(f"{keys:28} {name:34} {rate:9,.0f}/s  {rate / base[keys]:5.1f} x naive")
        print("after 10^5 updates of one row, table and index:", hot_row_bytes(server, 900_000), "bytes")


if __name__ == "__main__":
    main()

"""Decisions a second on every store that processes share, beside the peers that have such a store, and a transaction
by hand.

    python -m benchmarks.stores [--seconds 2] [--rounds 3] [--only SQLite,NATS]

The servers are the suite's own, and fully durable where that is what one would run; memcached is the system's, if it is
there. Keys are far below their limits, as nearly all are: one that all share, or a thousand. Contenders run in random
order, each once a round; the tables have the medians. A whole run writes docs/benchmarks/stores.md.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import rate_sync
from benchmarks.about import machine
from headgate import AsyncLimiter, Limiter

LIMIT: Final = "1_000_000/second; burst=1_000_000_000"
PATIENT_S: Final = 30.0
PAGE: Final = Path(__file__).parents[1] / "docs" / "benchmarks" / "stores.md"

Latencies = list[float]
"""The seconds that each call took."""
Run = Callable[[str, int, float, Callable[[], object]], Latencies]
"""By the store's URL, the number of keys, for how many seconds, and what waits for the others to be ready."""


class Contender(NamedTuple):
    """Whoever asks for decisions."""

    name: str
    run: Run
    keys: tuple[int, ...] = (1, 1000)
    processes: tuple[int, ...] = (1, 4)
    lacks: str = ""
    """Why it cannot be asked here; empty if it can."""


def key_of(keys: int) -> str:
    return f"user:{random.randrange(keys)}"


def _until(end: float, ask: Callable[[], object]) -> Latencies:
    told = []
    now = time.perf_counter()
    while now < end:
        ask()
        then, now = now, time.perf_counter()
        told.append(now - then)
    return told


def ours_blocking(url: str, keys: int, seconds: float, start: Callable[[], object], *, threads: int = 1) -> Latencies:
    with Limiter(LIMIT, store=url, name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
        limiter.try_acquire("warm")
        start()
        end = time.perf_counter() + seconds
        if threads == 1:
            return _until(end, lambda: limiter.try_acquire(key_of(keys)))
        with ThreadPoolExecutor(threads) as pool:
            asked = [pool.submit(_until, end, lambda: limiter.try_acquire(key_of(keys))) for _ in range(threads)]
            return [each for future in asked for each in future.result()]


def ours_of_tasks(url: str, keys: int, seconds: float, start: Callable[[], object], *, tasks: int) -> Latencies:
    async def run() -> Latencies:
        told: Latencies = []
        async with AsyncLimiter(LIMIT, store=url, name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
            await limiter.try_acquire("warm")
            start()
            end = time.perf_counter() + seconds

            async def ask() -> None:
                now = time.perf_counter()
                while now < end:
                    await limiter.try_acquire(key_of(keys))
                    then, now = now, time.perf_counter()
                    told.append(now - then)

            await asyncio.gather(*(ask() for _ in range(tasks)))
        return told

    return asyncio.run(run())


def sqlite_by_hand(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """A count in a row, in one transaction, with SQLite's own waiting."""
    database = sqlite3.connect(_path(url), timeout=PATIENT_S, isolation_level=None)
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:  # another process is doing so, and this does not wait
            time.sleep(0.01)
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INTEGER)")

    def ask() -> None:
        key = key_of(keys)
        database.execute("BEGIN IMMEDIATE")
        row = database.execute("SELECT count FROM counts WHERE key = ?", (key,)).fetchone()
        database.execute("REPLACE INTO counts VALUES (?, ?)", (key, row[0] + 1 if row else 1))
        database.execute("COMMIT")

    start()
    told = _until(time.perf_counter() + seconds, ask)
    database.close()
    return told


def postgres_by_hand(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """The transaction that everybody writes first: SELECT ... FOR UPDATE, UPDATE, COMMIT."""
    import psycopg

    now_us = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    with _making_tables(url) as connection:
        connection.execute("create table if not exists naive (key text primary key, tat bigint)")
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(keys):
            connection.execute("insert into naive values (%s, 0) on conflict do nothing", [f"user:{number}"])

        def ask() -> None:
            key = key_of(keys)
            with connection.transaction():
                row = connection.execute(f"select tat, {now_us} from naive where key = %s for update", [key]).fetchone()
                assert row is not None
                connection.execute("update naive set tat = %s where key = %s", [max(row) + 1, key])

        start()
        return _until(time.perf_counter() + seconds, ask)


@contextmanager
def _making_tables(url: str) -> Iterator[Any]:
    """One process after the other: two at a time cannot make a table that is not there yet."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(1)")
        yield connection


def limits_on_any(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """A fixed window, the least that it has, with the client that it chooses."""
    import limits

    strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.storage_from_string(url))
    hit = partial(strategy.hit, limits.RateLimitItemPerSecond(10**9))
    hit("warm")
    start()
    return _until(time.perf_counter() + seconds, lambda: hit(key_of(keys)))


def _pyrate(bucket: Any, seconds: float, start: Callable[[], object], ask: Callable[[Any], object]) -> Latencies:
    start()
    return _until(time.perf_counter() + seconds, partial(ask, bucket))


def pyrate_on_sqlite(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """One bucket, as its documentation shows it, with the lock that several processes need."""
    from pyrate_limiter import Duration, Rate, RateItem, SQLiteBucket

    def ask(bucket: Any) -> None:
        with bucket.lock:
            now_ms = time.time_ns() // 1_000_000
            bucket.leak(now_ms)
            bucket.put(RateItem("k", now_ms))

    rates = [Rate(10**9, Duration.SECOND)]
    return _pyrate(SQLiteBucket.init_from_file(rates, db_path=_path(url), use_file_lock=True), seconds, start, ask)


def pyrate_on_postgres(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """One bucket, with a pool of psycopg's."""
    from psycopg_pool import ConnectionPool
    from pyrate_limiter import Duration, PostgresBucket, Rate, RateItem

    def ask(bucket: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        bucket.leak(now_ms)
        bucket.put(RateItem("k", now_ms))

    with ConnectionPool(url, min_size=1, max_size=2) as pool:
        return _pyrate(PostgresBucket(pool, "bench", [Rate(10**9, Duration.SECOND)]), seconds, start, ask)


def pyrate_on_redis(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """One bucket, which is a log in a sorted set."""
    import redis
    from pyrate_limiter import Duration, Rate, RateItem, RedisBucket

    def ask(bucket: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        bucket.leak(now_ms)
        bucket.put(RateItem("k", now_ms))

    bucket = RedisBucket.init([Rate(10**9, Duration.SECOND)], redis.Redis.from_url(url), "bench")
    return _pyrate(bucket, seconds, start, ask)


def rate_sync_waiting(
    url: str, keys: int, seconds: float, start: Callable[[], object], *, store: dict[str, Any], limit: dict[str, Any]
) -> Latencies:
    """One limiter of rate-sync's, whose callers wait: several at a time are refused by its PostgreSQL otherwise."""
    import ratesync

    ratesync.configure_store("bench", url=url, **store)
    ratesync.configure_limiter("k", store_id="bench", fail_closed=True, **limit)
    limiter = ratesync.get_limiter("k")

    async def run() -> Latencies:
        if "auto_create" in store:
            with _making_tables(url):
                await limiter.initialize()
        await ratesync.acquire("k")
        start()
        told = []
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            await limiter.acquire()
            then, now = now, time.perf_counter()
            told.append(now - then)
        await limiter.disconnect()
        return told

    return asyncio.run(run())


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


OURS: Final = (
    Contender("one caller", ours_blocking),
    Contender("16 threads", partial(ours_blocking, threads=16)),
    Contender("64 tasks", partial(ours_of_tasks, tasks=64)),
    Contender("512 tasks", partial(ours_of_tasks, tasks=512)),
)
BY_HAND: Final = "*a transaction by hand*"
PYRATE: Final = "*pyrate-limiter*"
LIMITS: Final = Contender("*limits*", limits_on_any)
RATE_SYNC: Final = "*rate-sync*"
MEMCACHED: Final = shutil.which("memcached")
CONTENDERS: Final = {
    "SQLite": (*OURS, Contender(BY_HAND, sqlite_by_hand), Contender(PYRATE, pyrate_on_sqlite, keys=(1,))),
    "Valkey": (
        *OURS,
        LIMITS,
        Contender(PYRATE, pyrate_on_redis, keys=(1,)),
        Contender(
            RATE_SYNC,
            partial(
                rate_sync_waiting,
                store={"strategy": "redis"},
                limit={"algorithm": "sliding_window", "limit": 10**9, "window_seconds": 1},
            ),
            keys=(1,),
            lacks=rate_sync.LACKS,
        ),
    ),
    "PostgreSQL": (
        OURS[0]._replace(processes=(1, 4, 8)),
        *OURS[1:],
        Contender(BY_HAND, postgres_by_hand, processes=(1, 4, 8)),
        Contender(PYRATE, pyrate_on_postgres, keys=(1,)),
        Contender(
            RATE_SYNC,
            partial(
                rate_sync_waiting,
                store={"strategy": "postgres", "auto_create": True},
                limit={"rate_per_second": 10.0**6},
            ),
            keys=(1,),
            lacks=rate_sync.lacks("asyncpg"),
        ),
    ),
    "PostgreSQL unlogged": OURS,
    "NATS": OURS,
    "memcached": (
        LIMITS._replace(lacks="" if MEMCACHED else "there is no memcached on the PATH; `make servers` installs it"),
    ),
    "MongoDB": (LIMITS._replace(lacks="no wheel and no package of Debian has the server"),),
}


@contextmanager
def served(store: str) -> Iterator[str]:
    """The URL of an empty store of this kind."""
    if store == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/limits.db"
    elif store == "Valkey":
        from tests.servers import own_valkey

        with own_valkey() as valkey:
            yield valkey.url
    elif store == "memcached":
        with _own_memcached() as url:
            yield url
    elif store == "NATS":
        from tests.nats_servers import own_nats

        with own_nats() as nats:
            yield nats.url
    else:
        from tests.postgres_servers import own_postgres

        with own_postgres(16, "fsync=on", "synchronous_commit=on", "full_page_writes=on") as postgres:
            if "unlogged" in store:
                import psycopg

                from headgate.plans.postgres import schema_text

                with psycopg.connect(postgres.url, autocommit=True) as owner:
                    owner.execute(schema_text("headgate", unlogged=True).encode())
            yield postgres.url


@contextmanager
def _own_memcached() -> Iterator[str]:
    from tests.postgres_servers import as_somebody
    from tests.servers import eventually, free_port

    port = free_port()

    def answers() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    server = subprocess.Popen([str(MEMCACHED), "-l", "127.0.0.1", "-p", str(port), "-U", "0"], **as_somebody())
    try:
        eventually(answers, "memcached answers")
        yield f"memcached://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _worker(store: str, number: int, url: str, keys: int, seconds: float, barrier: Barrier, told: Any) -> None:
    told.put(CONTENDERS[store][number].run(url, keys, seconds, barrier.wait))


class Row(NamedTuple):
    """A line of the table."""

    store: str
    number: int
    processes: int
    keys: int


def measure(row: Row, seconds: float) -> tuple[float, float, float]:
    """Decisions a second of all processes; the 99th percentile and the longest of what calls took, in ms."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(row.processes), context.Queue()
    with served(row.store) as url:
        work = [
            context.Process(target=_worker, args=(row.store, row.number, url, row.keys, seconds, barrier, told))
            for _ in range(row.processes)
        ]
        for each in work:
            each.start()
        latencies = sorted(latency for _ in work for latency in told.get(timeout=60 + seconds))
        for each in work:
            each.join()
    return len(latencies) / seconds, latencies[int(len(latencies) * 0.99)] * 1e3, latencies[-1] * 1e3


def tables(found: dict[Row, list[tuple[float, float, float]]], stores: list[str]) -> str:
    """The results, a table for each store, and under it who is not there, and why."""
    lines: list[str] = []
    for store in stores:
        rows = {row: runs for row, runs in found.items() if row.store == store}
        lines += [f"## {store}", ""]
        if rows:
            lines += ["| | processes | keys | decisions/s | p99, ms | longest, ms |"]
            lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
        for row, runs in rows.items():
            rate, p99_ms, longest_ms = (statistics.median(each) for each in zip(*runs, strict=True))
            name = CONTENDERS[store][row.number].name
            told = f"{rate:,.0f} | {p99_ms:.2f} | {longest_ms:.1f}"
            lines.append(f"| {name} | {row.processes} | {row.keys:,} | {told} |")
        missing = [f"- {each.name}: {each.lacks}" for each in CONTENDERS[store] if each.lacks]
        if missing:
            lines += ["", "Not here:", "", *missing] if rows else ["Not here:", "", *missing]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Decisions a second on every store.")
    parser.add_argument("--quick", action="store_true", help="each once, for a third of a second; writes nothing")
    parser.add_argument("--seconds", type=float, help="of each run (2)")
    parser.add_argument("--rounds", type=int, help="how often each is run (3)")
    parser.add_argument("--only", help=f"some of {', '.join(CONTENDERS)}; writes nothing")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (0.3 if arguments.quick else 2.0)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    stores = [name for name in CONTENDERS if arguments.only is None or name in arguments.only.split(",")]
    rows = [
        Row(store, number, processes, keys)
        for store in stores
        for keys in (1, 1000)
        for processes in (1, 4, 8)
        for number, each in enumerate(CONTENDERS[store])
        if keys in each.keys and processes in each.processes and not each.lacks
    ]
    found: dict[Row, list[tuple[float, float, float]]] = {row: [] for row in rows}
    for at in range(rounds):
        for done, row in enumerate(random.sample(rows, len(rows))):
            if sys.stderr.isatty():
                told = f"round {at + 1} of {rounds}: {done + 1} of {len(rows)}"
                print(f"\r{told} ", end="", file=sys.stderr, flush=True)
            found[row].append(measure(row, seconds))
    if sys.stderr.isatty():
        print("\r" + " " * 40, end="\r", file=sys.stderr)
    page = tables(found, stores)
    print(page)
    if not arguments.quick and arguments.only is None:
        about = "; ".join(f"{what}: {told}" for what, told in machine().items())
        PAGE.write_text(f"{HEAD}\n{about}.\n\n{page.rstrip()}\n")
        print(f"written: {PAGE}")


HEAD: Final = """# Every store

Decisions a second of headgate on each store that processes share, beside a transaction by hand, which is the least that
the store can do for one decision, the fixed window of `limits`, pyrate-limiter's bucket and rate-sync's limiter, where
they have such a store. The last two are an object for each key, and are asked for one key. memcached and MongoDB are
stores of `limits` alone. `make bench-stores` measures it and writes this page. Calls of 16 threads and of tasks go
together in batches; the latency is a caller's.
"""


if __name__ == "__main__":
    main()

"""Decisions in a file of SQLite: ours, pyrate-limiter's, and a transaction by hand, in one process and in four.

python -m benchmarks.sqlite [SECONDS]

Each contender runs for some seconds, in turns, and again; the table has the medians. Keys are far below their limits,
as nearly all are: one that all share, or a thousand.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, NamedTuple

from headgate import AsyncLimiter, Limiter

ROUNDS: Final = 3
LIMIT: Final = "1_000_000/second; burst=1_000_000_000"
PATIENT_S: Final = 30.0
TASKS: Final = 64

Latencies = list[float]
"""The seconds that each call took."""


class Contender(NamedTuple):
    """Who asks for decisions, and how many processes can."""

    name: str
    run: Callable[[Path, int, float, Callable[[], object]], Latencies]
    processes: tuple[int, ...] = (1, 4)
    keys: tuple[int, ...] = (1, 1000)


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


def ours_blocking(path: Path, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    with Limiter(LIMIT, store=f"sqlite:///{path}", name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
        limiter.try_acquire("warm")
        start()
        return _until(time.perf_counter() + seconds, lambda: limiter.try_acquire(key_of(keys)))


def ours_of_threads(path: Path, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    with Limiter(LIMIT, store=f"sqlite:///{path}", name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
        limiter.try_acquire("warm")
        start()
        end = time.perf_counter() + seconds
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(_until, end, lambda: limiter.try_acquire(key_of(keys))) for _ in range(16)]
            return [each for future in asked for each in future.result()]


def ours_of_tasks(path: Path, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    async def run() -> Latencies:
        told: Latencies = []
        store = f"sqlite:///{path}"
        async with AsyncLimiter(LIMIT, store=store, name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
            await limiter.try_acquire("warm")
            start()
            end = time.perf_counter() + seconds

            async def ask() -> None:
                now = time.perf_counter()
                while now < end:
                    await limiter.try_acquire(key_of(keys))
                    then, now = now, time.perf_counter()
                    told.append(now - then)

            await asyncio.gather(*(ask() for _ in range(TASKS)))
        return told

    return asyncio.run(run())


def by_hand(path: Path, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """A count in a row, in one transaction, with SQLite's own waiting."""
    database = sqlite3.connect(path, timeout=PATIENT_S, isolation_level=None)
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


def pyrate(path: Path, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
    """One bucket, as its documentation shows it, with the lock that several processes need."""
    from pyrate_limiter import Duration, Rate, RateItem, SQLiteBucket

    bucket: Any = SQLiteBucket.init_from_file([Rate(10**9, Duration.SECOND)], db_path=str(path), use_file_lock=True)

    def ask() -> None:
        with bucket.lock:
            now_ms = time.time_ns() // 1_000_000
            bucket.leak(now_ms)
            bucket.put(RateItem("k", now_ms))

    start()
    return _until(time.perf_counter() + seconds, ask)


CONTENDERS: Final = (
    Contender("headgate, one caller", ours_blocking),
    Contender("headgate, 16 threads", ours_of_threads),
    Contender(f"headgate, {TASKS} tasks", ours_of_tasks),
    Contender("a transaction by hand", by_hand),
    Contender("pyrate-limiter", pyrate, keys=(1,)),
)


def _worker(number: int, path: Path, keys: int, seconds: float, barrier: Barrier, told: Any) -> None:
    told.put(CONTENDERS[number].run(path, keys, seconds, barrier.wait))


def measure(number: int, processes: int, keys: int, seconds: float) -> tuple[float, float, float]:
    """Decisions a second of all processes; the 99th percentile and the longest of what calls took, in ms."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(processes), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "limits.db")
        work = [
            context.Process(target=_worker, args=(number, path, keys, seconds, barrier, told)) for _ in range(processes)
        ]
        for each in work:
            each.start()
        latencies = sorted(latency for _ in work for latency in told.get(timeout=60 + seconds))
        for each in work:
            each.join()
    return len(latencies) / seconds, latencies[int(len(latencies) * 0.99)] * 1e3, latencies[-1] * 1e3


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    rows = [
        (number, processes, keys)
        for keys in (1, 1000)
        for processes in (1, 4)
        for number, each in enumerate(CONTENDERS)
        if processes in each.processes and keys in each.keys
    ]
    found: dict[tuple[int, int, int], list[tuple[float, float, float]]] = {row: [] for row in rows}
    for at in range(ROUNDS):
        for done, row in enumerate(random.sample(rows, len(rows))):
            print(f"\rround {at + 1} of {ROUNDS}: {done + 1} of {len(rows)} ", end="", file=sys.stderr, flush=True)
            found[row].append(measure(*row, seconds))
    print("\r" + " " * 40, end="\r", file=sys.stderr)
    print("| | processes | keys | decisions/s | p99, ms | longest, ms |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for (number, processes, keys), runs in found.items():
        rate, p99_ms, longest_ms = (statistics.median(each) for each in zip(*runs, strict=True))
        print(f"| {CONTENDERS[number].name} | {processes} | {keys:,} | {rate:,.0f} | {p99_ms:.2f} | {longest_ms:.1f} |")


if __name__ == "__main__":
    main()

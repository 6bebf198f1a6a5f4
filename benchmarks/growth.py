"""What becomes of the speed when there are more processes, and more keys."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final

import redis

from benchmarks.measure import FOREVER_NS, SEED, Column, Row, Table, check, describe, interleave, slice_async
from benchmarks.peers import Contender, Entry, databases, find
from benchmarks.scenarios import BOUNDLESS, USERS, Scenario, always, in_turn
from benchmarks.speed import Bench, clean, opened

TASKS: Final = 64
COMPARED: Final = (
    find("headgate", "token bucket"),
    find("limits", "fixed window"),
    find("throttled-py", "GCRA"),
    find("throttled-py", "fixed window"),
)
"""Ours, and the peers that are fastest in most scenarios."""
PROCESSES: Final = (1, 2, 4)
HEAD_START_NS: Final = 10_000_000
"""Between the order to work and its beginning, so that all begin together."""
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)


# More processes


@dataclass
class Workers:
    """The processes of one contender. They live through all rounds, and call when they are told to."""

    entry: Entry
    started: list[tuple[SpawnProcess, Connection]] = field(default_factory=list)

    def work(self, processes: int, seconds: float) -> float:
        """Let so many of them call; returns the calls per second of all."""
        connections = [connection for _, connection in self.started[:processes]]
        begins_ns = time.perf_counter_ns() + HEAD_START_NS
        for connection in connections:
            connection.send((begins_ns, begins_ns + int(seconds * 1e9)))
        worked = [_received(connection) for connection in connections]
        return sum(calls for calls, _ in worked) / (max(ended_ns for _, ended_ns in worked) - begins_ns) * 1e9


def run_processes(bench: Bench) -> Table:
    """1, 2 and 4 processes, each with 64 tasks."""
    clean(bench.base)
    columns = tuple(Column(f"{processes} process{'es' * (processes > 1)}") for processes in PROCESSES)
    with contextlib.ExitStack() as stack:
        workers_of: dict[Contender, Workers] = {}
        rows: dict[Contender, Row] = {}
        for entry, url in zip(COMPARED, databases(bench.base), strict=False):
            contender = Contender(entry.library, entry.algorithm, str)
            workers_of[contender] = stack.enter_context(_started(entry, url))
            rows[contender] = Row(entry.library, entry.algorithm)
        for workers in workers_of.values():  # all are starting by now; none calls before all are there
            for _, connection in workers.started:
                _received(connection)
        for contender, workers in workers_of.items():
            try:
                for _, connection in workers.started:
                    connection.send("warm up")
                    _received(connection)
            except Exception as error:
                rows[contender].failure = describe(error)
        for column, processes in zip(columns, PROCESSES, strict=True):

            def take(contender: Contender, slice_s: float, name: str = column.name, many: int = processes) -> Any:
                return {name: workers_of[contender].work(many, slice_s)}

            interleave(rows, take, bench.pace.rounds, bench.pace.slice_s * 4, bench.tick)
    clean(bench.base)
    remark = (
        f"Calls per second of all processes together, {TASKS} tasks in each. They share this machine with the server."
    )
    return Table("growth-processes", "more processes", columns, list(rows.values()), remark)


@contextlib.contextmanager
def _started(entry: Entry, url: str) -> Iterator[Workers]:
    workers, context = Workers(entry), multiprocessing.get_context("spawn")
    for _ in range(max(PROCESSES)):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, entry.library, entry.algorithm, url), daemon=True)
        process.start()
        theirs.close()
        workers.started.append((process, ours))
    try:
        yield workers
    finally:
        for _, connection in workers.started:
            with contextlib.suppress(OSError):
                connection.send(None)
        for process, connection in workers.started:
            process.join(5)
            if process.is_alive():
                process.kill()
            connection.close()


def _received(connection: Connection) -> tuple[int, int]:
    """How many calls were made, and when the last one ended."""
    answer = connection.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    calls, ended_ns = answer
    return calls, ended_ns


def _work(connection: Connection, library: str, algorithm: str, url: str) -> None:
    """The work of one process: it answers when it is there, and again when it is warm. Then, for two instants, it calls
    from the one to the other, by the clock that all processes of a machine share. None ends it."""

    async def open_it(maker: Callable[..., Contender]) -> Contender:
        return maker(url, BOUNDLESS)

    with asyncio.Runner() as runner:
        try:
            maker = find(library, algorithm).open_async
            assert maker is not None
            connection.send((0, 0))
            if connection.recv() is None:
                return
            contender = runner.run(open_it(maker))
            runner.run(slice_async(contender, iter(USERS), FOREVER_NS, TASKS))
            connection.send((0, 0))
            keys = in_turn(USERS)
            while (span := connection.recv()) is not None:
                begins_ns, until_ns = span
                time.sleep(max(0, begins_ns - time.perf_counter_ns()) / 1e9)
                slice_ = runner.run(slice_async(contender, keys, until_ns, TASKS))
                try:
                    check(contender, slice_.answers, always)
                except Exception as error:
                    connection.send(describe(error))
                else:
                    connection.send((slice_.calls, time.perf_counter_ns()))
        except EOFError:
            return
        except Exception as error:
            connection.send(describe(error))


# More keys


SAMPLE: Final = "member0"
FILL: Final = """
for number = ARGV[3], ARGV[4] do
  redis.call('RESTORE', KEYS[1] .. string.format('%d', number) .. KEYS[2], ARGV[1], ARGV[2], 'REPLACE')
end
"""
PER_SCRIPT: Final = 20_000


def run_keys(bench: Bench) -> Table:
    """A thousand to a million keys, met in random order by 64 tasks."""
    scenario = Scenario("growth-keys", "more keys, 64 tasks", "async", TASKS, COMPARED, warming=[SAMPLE] * 2)
    columns = tuple(Column(f"{size:,} keys") for size in SIZES)
    with opened(scenario, bench.base) as (rows, take_slice):
        urls = dict(zip(rows, databases(bench.base), strict=False))
        filled = 0
        for column, size in zip(columns, SIZES, strict=True):
            for contender, url in urls.items():
                if not rows[contender].failure:
                    fill(url, filled, size)
            filled = size

            def take(contender: Contender, slice_s: float, name: str = column.name, many: int = size) -> Any:
                until_ns = time.perf_counter_ns() + int(slice_s * 1e9)
                slice_ = take_slice(contender, _anybody(many), until_ns)
                check(contender, slice_.answers, always)
                return {name: slice_.calls / slice_.taken_ns * 1e9}

            interleave(rows, take, bench.pace.rounds, bench.pace.slice_s, bench.tick)
    remark = "Calls per second. All keys exist beforehand: one is made by each library, and copied on the server."
    return Table(scenario.name, scenario.title, columns, list(rows.values()), remark)


def fill(url: str, begin: int, end: int) -> None:
    """Copy what a library keeps for the sample key to the keys from one number to another."""
    client: Any = redis.Redis.from_url(url, socket_timeout=60)
    script = client.register_script(FILL)
    for name in client.keys(f"*{SAMPLE}*"):
        before, _, after = name.partition(SAMPLE.encode())
        keys = [before + SAMPLE.rstrip("0").encode(), after]
        kept, lives_ms = client.dump(name), max(0, client.pttl(name))
        for first in range(begin, end, PER_SCRIPT):
            script(keys=keys, args=[lives_ms, kept, first, min(first + PER_SCRIPT, end) - 1])
    client.close()


def _anybody(many: int) -> Iterator[str]:
    order = random.Random(SEED + many)
    while True:
        yield f"member{order.randrange(many)}"

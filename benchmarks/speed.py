"""Calls per second: each scenario's contenders, slice by slice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import redis

from benchmarks.measure import (
    CALLS,
    FOREVER_NS,
    Row,
    Slice,
    Table,
    TakeSlice,
    check,
    describe,
    interleave,
    slice_async,
    slice_in_threads,
    slice_sync,
)
from benchmarks.peers import Contender, Entry, close, databases
from benchmarks.scenarios import Scenario


class Pace(NamedTuple):
    """How long it takes: so many rounds, with slices of so many seconds."""

    rounds: int
    slice_s: float
    distinct_keys: int = 1_000_000
    """How many keys are asked for once each, where that is what is measured."""


class Bench(NamedTuple):
    """Where and how to measure, and whom to tell how far it is."""

    base: str
    """The server's URL, without a database."""
    pace: Pace
    tick: Callable[[], object] = bool
    """Called after each slice."""


def run(scenario: Scenario, bench: Bench) -> Table:
    """Measure one scenario."""
    with opened(scenario, bench.base) as (rows, take_slice):
        keys = {contender: scenario.keys() for contender in rows}

        def take(contender: Contender, slice_s: float) -> dict[str, float]:
            taken = keys[contender]
            if scenario.made_before:
                taken = iter(list(itertools.islice(taken, int(slice_s * scenario.made_before))))
            slice_ = take_slice(contender, taken, time.perf_counter_ns() + int(slice_s * 1e9))
            _end_timers()
            check(contender, slice_.answers, scenario.expects)
            return {CALLS.name: slice_.calls / slice_.taken_ns * 1e9}

        interleave(rows, take, bench.pace.rounds, bench.pace.slice_s * scenario.stretch, bench.tick)
    return Table(scenario.name, scenario.title, (CALLS,), list(rows.values()), scenario.remark, scenario.by_kind)


def _end_timers() -> None:
    """What a contender has begun in the background is not to take the next one's time."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(1)


@contextlib.contextmanager
def opened(scenario: Scenario, base: str) -> Iterator[tuple[dict[Contender, Row], TakeSlice]]:
    """The scenario's contenders, warm, each with an empty row (or one that says why not), and how a slice is taken.

    Afterwards, all that was opened is closed, and the server is empty."""
    clean(base)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        take_slice: TakeSlice
        if scenario.caller == "async":

            def in_loop(contender: Contender, keys: Iterator[str], until_ns: int) -> Slice:
                return runner.run(slice_async(contender, keys, until_ns, scenario.callers))

            take_slice = in_loop
        elif scenario.callers > 1:
            pool = stack.enter_context(ThreadPoolExecutor(scenario.callers))
            take_slice = slice_in_threads(pool, scenario.callers)
        else:
            take_slice = slice_sync
        rows: dict[Contender, Row] = {}
        for entry, url in zip(scenario.entries, databases(base), strict=False):
            row = Row(entry.library, entry.algorithm, remark=entry.remark)
            try:
                contender = runner.run(_open(entry, scenario, url))
            except Exception as error:
                contender = Contender(entry.library, entry.algorithm, str)
                row.failure = describe(error)
            rows[contender] = row
            if not row.failure:
                _warm(scenario, contender, row, take_slice)
        yield rows, take_slice
        for contender in rows:
            with contextlib.suppress(Exception):
                runner.run(close(contender))
    clean(base)


async def _open(entry: Entry, scenario: Scenario, url: str) -> Contender:
    """Inside the event loop, for those that need one."""
    if scenario.caller == "memory":
        assert entry.open_memory is not None
        return entry.open_memory(scenario.quota)
    if scenario.caller == "async":
        maker = entry.open_async
    else:
        maker = (entry.open_threads if scenario.callers > 1 else None) or entry.open_sync
    assert maker is not None, f"{entry.library} has no {scenario.caller} caller"
    return maker(url, scenario.quota)


def _warm(scenario: Scenario, contender: Contender, row: Row, take_slice: TakeSlice) -> None:
    """Connections, scripts, caches; and where calls shall be denied, the limit is reached. Then a slice like others."""
    try:
        take_slice(contender, iter(scenario.warming), FOREVER_NS)
        take_slice(contender, scenario.keys(), time.perf_counter_ns() + 20_000_000)
    except Exception as error:
        row.failure = describe(error)


def clean(base: str) -> None:
    """Empty the server, and end all connections that contenders left open."""
    client: Any = redis.Redis.from_url(base)
    client.flushall()
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    client.close()

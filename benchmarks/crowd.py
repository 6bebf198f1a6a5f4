"""Four processes that ask for one key at once: the last schedule of `make exactness`.

The processes are started once, before anything is measured, and asked for one library after the other. Each opens its
own limiter on the same database, waits for the same instant, and asks as fast as possible."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from benchmarks.ideals import largest_burst
from benchmarks.peers import Entry, Quota
from benchmarks.schedules import (
    CROWD,
    ENTRIES,
    KEY,
    Bench,
    Outcome,
    Tick,
    Trace,
    close_blocking,
    label,
    open_blocking,
    outcome,
    rate_of,
    sleep_until,
)

PROCESSES: Final = 4
CROWD_S: Final = 1.3


class Order(NamedTuple):
    """What one process asks for; the instant to begin at is sent when all are ready."""

    number: int
    """Of the entry, among `ENTRIES`."""
    url: str
    quota: Quota


@contextlib.contextmanager
def gathered() -> Iterator[list[Connection]]:
    """The connections to the processes."""
    spawning = multiprocessing.get_context("spawn")
    pairs = [spawning.Pipe() for _ in range(PROCESSES)]
    processes = [spawning.Process(target=serve, args=(theirs,), daemon=True) for _, theirs in pairs]
    for process in processes:
        process.start()
    ours = [mine for mine, _ in pairs]
    try:
        for connection in ours:
            connection.recv()
        yield ours
    finally:
        for connection in ours:
            connection.send(None)
        for process in processes:
            process.join(10)


def serve(connection: Connection) -> None:
    """Follow orders until there is none: the work of one process."""
    connection.send("here")
    with asyncio.Runner() as runner:
        while (order := connection.recv()) is not None:
            contender = open_blocking(ENTRIES[order.number], order.url, order.quota, runner)
            Trace().ask(contender, "warming up")
            connection.send("ready")
            trace, start_s = Trace(), connection.recv()
            sleep_until(start_s)
            trace.ask_until(contender, KEY, start_s + CROWD_S)
            connection.send(trace)
            close_blocking(contender, runner)


def crowd(connections: Sequence[Connection], bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Outcome]:
    """Four processes at once, as fast as possible, on one key."""
    outcomes = []
    for entry in entries:
        tick(label(entry))
        bench.empty()
        quota, whole = CROWD.of(entry), Trace()
        for connection in connections:
            connection.send(Order(ENTRIES.index(entry), f"{bench.base}/2", quota))
        for connection in connections:
            connection.recv()
        start_s = time.time() + 0.05
        for connection in connections:
            connection.send(start_s)
        for connection in connections:
            trace: Trace = connection.recv()
            whole.spans += trace.spans
            whole.admitted += trace.admitted
            whole.errors += trace.errors
        burst = largest_burst(whole.admitted, rate_of(quota))
        notes = {"largest burst": f"{burst:,.1f} of {quota.capacity:,}"}
        outcomes.append(outcome(entry, [whole], quota, **notes))
    return outcomes

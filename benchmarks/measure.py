"""Slices of time, taken in turns: how every number here is measured, and what is made of it.

In each round, every contender has one slice, in a new random order, so that what slows the machine down for a while
slows all of them down. A number is the median over the rounds; a ratio is taken within each round, and is the median of
those. After a slice, the last answers are compared with what the scenario expects of their keys: a limiter that is fast
because it does not limit is found out."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any, Final, NamedTuple

from benchmarks.shape import OURS, Contender, kind_of

FLOOR: Final = "no limiter"
"""No library: what it costs to reach the server at all."""
SEED: Final = 1
CHUNK: Final = 20
"""So many calls between two looks at the clock."""
CHUNK_IN_THREADS: Final = 2
"""Where many share the time, a call takes long, and all are to end together."""
FOREVER_NS: Final = 1 << 62
"""An instant that never comes: the slice ends with its keys."""


class Column(NamedTuple):
    """One number of a row."""

    name: str
    more_is_better: bool = True
    decimals: int = 0


CALLS: Final = Column("calls/s")


@dataclass
class Row:
    """What was measured of one contender, round by round."""

    library: str
    algorithm: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    remark: str = ""
    failure: str = ""
    """Why there is no number."""
    repeated: list[str] = field(default_factory=list)
    """Why slices were repeated."""

    @property
    def name(self) -> str:
        return f"{self.library}: {self.algorithm}"

    def add(self, **numbers: float) -> None:
        for column, number in numbers.items():
            self.rounds.setdefault(column, []).append(number)

    def median(self, column: str) -> float:
        return statistics.median(self.rounds[column])


@dataclass
class Table:
    """One scenario: its rows, best first by the first column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    remark: str = ""
    by_kind: bool = False
    """Is each row to be compared with the best peer of the same kind, too?"""

    @property
    def measured(self) -> list[Row]:
        """The rows that have numbers, best first."""
        column = self.columns[0]
        rows = [row for row in self.rows if not row.failure]
        return sorted(rows, key=lambda row: row.median(column.name), reverse=column.more_is_better)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.failure]

    def row(self, library: str, algorithm: str) -> Row:
        return next(row for row in self.rows if (row.library, row.algorithm) == (library, algorithm))

    def best_peer(self, column: Column | None = None, kind: str | None = None) -> Row | None:
        """The fastest (or leanest) of the others; of those of one kind of algorithm, if it is named."""
        column = column or self.columns[0]
        peers = [
            row
            for row in self.measured
            if row.library not in (OURS, FLOOR) and (kind is None or kind_of(row.algorithm) == kind)
        ]
        if not peers:
            return None
        best = max if column.more_is_better else min
        return best(peers, key=lambda row: row.median(column.name))

    def against_best_peer(self, row: Row, column: Column | None = None) -> float | None:
        """How many times the best peer's number a row's is."""
        best = self.best_peer(column)
        return None if best is None else ratio(row, best, (column or self.columns[0]).name)

    def against_best_of_kind(self, row: Row) -> float | None:
        """How many times the number of the best peer with the same kind of algorithm a row's is."""
        best = self.best_peer(kind=kind_of(row.algorithm))
        return None if best is None else ratio(row, best, self.columns[0].name)


def ratio(own: Row, other: Row, column: str) -> float:
    """The median of the ratios within each round."""
    pairs = zip(own.rounds[column], other.rounds[column], strict=True)
    return statistics.median(mine / theirs if theirs else float("inf") for mine, theirs in pairs)


def quantile(numbers: Sequence[float], share: float) -> float:
    """The smallest number that at least this share of the numbers does not exceed."""
    ordered = sorted(numbers)
    return ordered[max(0, -(-round(len(ordered) * share * 1_000) // 1_000) - 1)]


class Slice(NamedTuple):
    """What a slice of time brought."""

    calls: int
    taken_ns: int
    answers: list[tuple[str, Any]]
    """The last keys and their answers."""


TakeSlice = Callable[[Contender, Iterator[str], int], Slice]
"""Calls with key after key until an instant, or until there are no more keys."""


def slice_sync(contender: Contender, keys: Iterator[str], until_ns: int, chunk: int = CHUNK) -> Slice:
    """One caller that blocks."""
    call, clock = contender.call, time.perf_counter_ns
    calls, few, answers = 0, list[str](), list[Any]()
    started = clock()
    while clock() < until_ns:
        taken = list(itertools.islice(keys, chunk))
        if not taken:
            break
        few = taken
        answers = [call(key) for key in few]
        calls += len(few)
    return Slice(calls * contender.per_call, clock() - started, list(zip(few, answers, strict=True)))


def slice_in_threads(pool: ThreadPoolExecutor, threads: int) -> TakeSlice:
    """So many callers that block, in threads of one process that are kept from slice to slice."""

    def take(contender: Contender, keys: Iterator[str], until_ns: int) -> Slice:
        if until_ns >= FOREVER_NS:
            return slice_sync(contender, keys, until_ns)
        span_ns = until_ns - time.perf_counter_ns()
        parts = [list(itertools.islice(keys, CHUNK)) for _ in range(threads)]
        all_there = Barrier(threads)

        def work(part: list[str]) -> Slice:
            all_there.wait()
            return slice_sync(contender, itertools.cycle(part), time.perf_counter_ns() + span_ns, CHUNK_IN_THREADS)

        slices = list(pool.map(work, parts))
        taken_ns = max(one.taken_ns for one in slices)
        return Slice(sum(one.calls for one in slices), taken_ns, [last for one in slices for last in one.answers])

    return take


async def slice_async(contender: Contender, keys: Iterator[str], until_ns: int, tasks: int) -> Slice:
    """So many tasks of one event loop.

    A timer ends the slice, so that a quick call is not measured together with a look at the clock; the clock itself is
    looked at now and then, for calls that never give the loop its turn."""
    call, clock = contender.call, time.perf_counter_ns
    calls = 0
    over: list[bool] = []
    answers: list[tuple[str, Any]] = []

    async def work() -> None:
        nonlocal calls
        made, asked, answer = 0, None, None
        while not over and clock() < until_ns:
            before = made
            for key in itertools.islice(keys, CHUNK):
                asked, answer = key, await call(key)
                made += 1
                if over:
                    break
            if made == before:
                break
        calls += made
        if asked is not None:
            answers.append((asked, answer))

    started = clock()
    timer = None
    if until_ns < FOREVER_NS:
        timer = asyncio.get_running_loop().call_later((until_ns - started) / 1e9, over.append, True)
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
    taken_ns = clock() - started
    if timer is not None:
        timer.cancel()
    return Slice(calls * contender.per_call, taken_ns, answers)


def check(contender: Contender, answers: Iterable[tuple[str, Any]], expects: Callable[[str], bool]) -> None:
    """Were these keys admitted, or denied, as they should be?"""
    for key, answer in answers:
        if contender.is_admitted(answer) is not expects(key):
            wrongly = "denied" if expects(key) else "admitted"
            raise RuntimeError(f"{wrongly} {key!r}")


Take = Callable[[Contender, float], dict[str, float]]
"""One contender's slice of so many seconds: its numbers."""


def interleave(
    rows: dict[Contender, Row], take: Take, rounds: int, slice_s: float, tick: Callable[[], object] = bool
) -> None:
    """Give each contender a slice in each round.

    A slice that fails is repeated once, and the row says so. What fails again has no number, and no further slices."""
    order = random.Random(SEED)
    running = [contender for contender, row in rows.items() if not row.failure]
    for _ in range(rounds):
        order.shuffle(running)
        gc.unfreeze()
        gc.collect()
        gc.freeze()  # no row's collections are to go through what the others keep
        for contender in list(running):
            row = rows[contender]
            try:
                try:
                    row.add(**take(contender, slice_s))
                except Exception as error:  # a machine that stood still, or a limiter that fails? It fails again
                    row.repeated.append(describe(error))
                    time.sleep(slice_s)
                    row.add(**take(contender, slice_s))
            except Exception as error:
                row.failure = describe(error)
                running.remove(contender)
            tick()


def describe(error: BaseException) -> str:
    """An error in a line; of a group of them, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."

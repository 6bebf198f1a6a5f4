"""How long a caller waits for its answer: at the middle, and at the hundredth that waits longest."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from benchmarks.floors import CLIENT
from benchmarks.measure import Column, Table, check, interleave, quantile
from benchmarks.peers import Contender
from benchmarks.scenarios import ASYNC, Scenario
from benchmarks.speed import Bench, opened

P50: Final = Column("p50, µs", more_is_better=False)
P99: Final = Column("p99, µs", more_is_better=False)
ONE_TASK: Final = Scenario("latency-1", "how long one task waits", "async", 1, (*ASYNC, CLIENT), stretch=1.5)
MANY_TASKS: Final = Scenario(
    "latency-64",
    "how long each of 64 tasks waits, all asking without a pause",
    "async",
    64,
    (*ASYNC, CLIENT),
    stretch=1.5,
)


def run(scenario: Scenario, bench: Bench) -> Table:
    """Measure the waits of one scenario."""
    with opened(scenario, bench.base) as (rows, take_slice):
        keys = {contender: scenario.keys() for contender in rows}

        def take(contender: Contender, slice_s: float) -> dict[str, float]:
            waits_ns: list[int] = []
            until_ns = time.perf_counter_ns() + int(slice_s * 1e9)
            slice_ = take_slice(timed(contender, waits_ns), keys[contender], until_ns)
            check(contender, slice_.answers, scenario.expects)
            return {P50.name: quantile(waits_ns, 0.5) / 1_000, P99.name: quantile(waits_ns, 0.99) / 1_000}

        interleave(rows, take, bench.pace.rounds, bench.pace.slice_s * scenario.stretch, bench.tick)
    return Table(scenario.name, scenario.title, (P50, P99), list(rows.values()), scenario.remark)


def timed(contender: Contender, waits_ns: list[int]) -> Contender:
    """The same, noting how long each call takes."""
    call, clock = contender.call, time.perf_counter_ns

    async def timed_call(key: str) -> Any:
        asked_ns = clock()
        answer = await call(key)
        waits_ns.append(clock() - asked_ns)
        return answer

    return replace(contender, call=timed_call)

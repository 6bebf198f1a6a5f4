"""The picture: the fastest algorithm of each library, by scenario, on a logarithmic scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    "memory": "in memory, one blocking caller",
}
"""Scenario and title; drawn in two columns."""
# Read well on white as on black: every text and line is of middle brightness, and there is no background.
INK, GRID, PEER, OWN, BARE = "#768390", "#8b949e", "#9aa4b0", "#2f81f7", "#c9ae6a"
BAR_INCHES: Final = 0.225


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
    shown = [(title, fastest_of_each(table)) for title, table in panels]
    heights = [max(len(rows) for _, rows in shown[line * 2 : line * 2 + 2]) + 2.2 for line in range(lines)]
    figure = Figure(figsize=(10, sum(heights) * BAR_INCHES + 0.7))
    figure.suptitle(
        "calls per second, each library's fastest algorithm (longer is better, logarithmic)",
        x=0.012,
        ha="left",
        fontsize=11,
    )
    top = 1 - 0.62 / figure.get_figheight()
    margins = {"left": 0.175, "right": 0.955, "top": top, "bottom": 0.015}
    grid = figure.add_gridspec(lines, 2, height_ratios=heights, wspace=0.62, hspace=0.32, **margins)
    for place, (title, rows) in enumerate(shown):
        panel(figure.add_subplot(grid[place // 2, place % 2]), title, rows)
    return figure


def panel(axes: Axes, title: str, rows: list[Row]) -> None:
    """One scenario: bars from the fastest down, each with its name before and its number behind it."""
    speeds = [row.median("calls/s") for row in rows]
    axes.barh(range(len(rows)), speeds, height=0.7, color=[colour(row) for row in rows])
    axes.set_xscale("log")
    least = min(speeds) / 3
    axes.set_xlim(least, max(speeds) * 4)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=4)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.library == OURS:
            text.set_color(OWN)
            text.set_fontweight("bold")
    peers = [speed for row, speed in zip(rows, speeds, strict=True) if row.library not in (OURS, FLOOR)]
    for line, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        own = row.library == OURS
        times = f"  {speed / max(peers):,.1f}×" if own and peers else ""
        axes.text(
            speed * 1.07,
            line,
            f"{speed:,.0f}{times}",
            va="center",
            fontsize=8.5,
            color=OWN if own else INK,
            fontweight="bold" if own else "normal",
        )
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def colour(row: Row) -> str:
    return {OURS: OWN, FLOOR: BARE}.get(row.library, PEER)


def label(row: Row) -> str:
    if row.library == FLOOR:
        return row.algorithm
    return f"{row.library}, {row.algorithm.partition(',')[2].strip()}" if "lease" in row.algorithm else row.library


def fastest_of_each(table: Table) -> list[Row]:
    """The fastest row of each library, ours with a lease as well, and all that limits nothing."""
    seen: set[str] = set()
    rows = []
    for row in table.measured:
        name = row.algorithm if row.library == FLOOR or "lease" in row.algorithm else row.library
        if name not in seen and "remember_denials" not in row.algorithm:
            seen.add(name)
            rows.append(row)
    return rows

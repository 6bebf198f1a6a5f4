"""The picture that `make exactness` draws: one row for each library and algorithm, one panel for each schedule."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.exactness_page import ratio_text
from benchmarks.peers import OURS, Entry
from benchmarks.schedules import Outcome

# Read well on white as on black: every text and line is of middle brightness, and there is no background.
INK, GRID, WE, NEAR, OFF = "#768390", "#8b949e", "#2f81f7", "#c69026", "#e16f24"
LOWEST, HIGHEST = 0.1, 10.0
"""What is beyond is drawn as an arrow at the edge."""
PANELS: Final = {
    "flood": "as fast\nas possible",
    "idle": "after\nidling",
    "drip": "just under\nthe limit",
    "flush": "scripts\nforgotten",
    "tiers": "three tiers,\none full",
    "crowd": "four\nprocesses",
}


def draw(found: dict[str, list[Outcome]], to: Path) -> None:
    """Draw what was found, and write it."""
    mpl.rcParams.update({"svg.hashsalt": "headgate", "svg.fonttype": "path", "font.family": "DejaVu Sans"})
    entries = [outcome.entry for outcome in next(iter(found.values()))]
    figure = Figure(figsize=(11.2, 0.9 + 0.29 * len(entries)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, wspace=0.0)  # type: ignore[union-attr,call-arg]
    panels: Sequence[Axes] = figure.subplots(1, len(found), sharey=True)
    places = _places([entry.library for entry in entries])
    for panel, (name, outcomes) in zip(panels, found.items(), strict=True):
        _panel(panel, PANELS[name], outcomes, places)
    _names(panels[0], entries, places)
    figure.supxlabel("admitted, as a multiple of the ideal", color=INK, fontsize=9)
    metadata = {"Date": None, "Creator": None} if to.suffix == ".svg" else None
    figure.savefig(to, transparent=True, metadata=metadata)


def _places(libraries: list[str]) -> list[float]:
    """A row for each, from the top, with a gap between libraries."""
    places: list[float] = []
    at = 0.0
    for _, group in groupby(libraries):
        for _ in group:
            places.append(at)
            at -= 1
        at -= 0.45
    return places


def _names(panel: Axes, entries: list[Entry], places: list[float]) -> None:
    """The algorithms, and each library once, in a column of its own."""
    panel.set_yticks(places, [entry.algorithm for entry in entries])
    told = set()
    for text, entry, place in zip(panel.get_yticklabels(), entries, places, strict=True):
        look: dict[str, Any] = {
            "color": WE if entry.library == OURS else INK,
            "fontweight": "bold" if entry.library == OURS else "normal",
            "fontsize": 8.5,
        }
        text.set(**look)
        if entry.library not in told:
            told.add(entry.library)
            panel.text(-1.95, place, entry.library, transform=panel.get_yaxis_transform(), va="center_baseline", **look)


def _panel(panel: Axes, title: str, outcomes: list[Outcome], places: list[float]) -> None:
    panel.set_xscale("log")
    panel.set_xlim(LOWEST / 1.6, HIGHEST * 1.6)
    panel.set_ylim(places[-1] - 0.8, 0.8)
    ours = [place for place, outcome in zip(places, outcomes, strict=True) if outcome.entry.library == OURS]
    panel.axhspan(ours[-1] - 0.6, ours[0] + 0.6, color=WE, alpha=0.1, linewidth=0)
    panel.axvline(1.0, color=GRID, linewidth=1, alpha=0.7, zorder=1)
    for place, outcome in zip(places, outcomes, strict=True):
        _dot(panel, place, outcome)
    panel.set_title(title, color=INK, fontsize=9.5, fontweight="bold", pad=7)
    panel.set_xticks([LOWEST, 1, HIGHEST], ["0.1", "1", "10"])
    panel.minorticks_off()
    panel.tick_params(axis="x", colors=INK, length=3, labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.patch.set_visible(False)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _dot(panel: Axes, place: float, outcome: Outcome) -> None:
    ratio = min(HIGHEST, max(LOWEST, outcome.ratio))
    if outcome.is_exact:
        color = WE if outcome.entry.library == OURS else INK
        size = 6.5 if outcome.entry.library == OURS else 5
        panel.plot([1.0], [place], "o", color=color, markersize=size, linewidth=0, zorder=3)
        if outcome.errors:
            _tell(panel, place, "raises", OFF, to_the_right=True)
        return
    color = NEAR if abs(outcome.ratio - 1) < 0.01 else OFF
    panel.plot([1.0, ratio], [place, place], color=color, linewidth=2, alpha=0.5, zorder=2, solid_capstyle="butt")
    marker = "<" if outcome.ratio < LOWEST else ">" if outcome.ratio > HIGHEST else "o"
    panel.plot([ratio], [place], marker, color=color, markersize=5.5, linewidth=0, zorder=3)
    _tell(panel, place, ratio_text(outcome), color, to_the_right=outcome.ratio < 1)


def _tell(panel: Axes, place: float, text: str, color: str, *, to_the_right: bool) -> None:
    """A word on the side where nothing is drawn."""
    panel.annotate(
        text,
        (1.0, place),
        xytext=(7 if to_the_right else -7, 0),
        textcoords="offset points",
        ha="left" if to_the_right else "right",
        va="center",
        color=color,
        fontsize=8,
        fontweight="bold",
    )

"""Draw what each algorithm admits of one and the same demand: `docs/algorithms.svg`.

    make pictures
    .venv/bin/python docs/draw_algorithms.py

Asks the real library, on a memory store whose clock is moved by hand, and prints the numbers that `docs/algorithms.md`
quotes. The picture is the same, byte for byte, with each run of the same matplotlib."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as MplPath

from headgate import FixedWindow, Limit, Limiter, ManualClock, MemoryStore, SlidingLog, SlidingWindow, TokenBucket

RATE: Final = 10
PERIOD: Final = 10
END: Final = 70
LIMITS: Final[dict[str, Limit]] = {
    "token bucket": TokenBucket(RATE, per=PERIOD),
    "token bucket, burst=3": TokenBucket(RATE, per=PERIOD, burst=3),
    "fixed window": FixedWindow(RATE, per=PERIOD),
    "sliding window": SlidingWindow(RATE, per=PERIOD),
    "sliding log": SlidingLog(RATE, per=PERIOD),
}
REMARKS: Final = {
    "token bucket": "a burst at once, then one a second",
    "token bucket, burst=3": "a small burst, then one a second",
    "fixed window": "twice the limit around an edge",
    "sliding window": "no double burst at an edge; evens out",
    "sliding log": "never above the limit; a burst echoes",
}
# Read well on white as on black: every text and line is of middle brightness, and there is no background.
INK, GRID, DEMAND, ADMITTED, SUM = "#768390", "#8b949e", "#8b949e", "#2f81f7", "#e16f24"


class Story(NamedTuple):
    """What became of the demand under one limit: the instants of what was admitted, in microseconds."""

    admitted: list[int]

    def most_in(self, seconds: float) -> int:
        """The most that was admitted in any interval of this length (its end left out)."""
        length = round(seconds * 1_000_000)
        return max((self.in_last(length, instant + length - 1) for instant in self.admitted), default=0)

    def in_last(self, length_us: int, at_us: int) -> int:
        return sum(at_us - length_us < instant <= at_us for instant in self.admitted)


def demand() -> list[int]:
    """The instants of all requests, in microseconds: 12 and 12 around an edge, too many for half a minute, silence, 20
    at once."""
    before, after = [8_500_000 + 125_000 * n for n in range(12)], [10_000_000 + 125_000 * n for n in range(12)]
    steady = [16_000_000 + 400_000 * n for n in range(70)]
    return [*before, *after, *steady, *[58_000_000 + 50_000 * n for n in range(20)]]


def ask(limit: Limit) -> Story:
    """Put the demand to a limit."""
    clock = ManualClock(start_us=1_800_000_000_000_000)  # on an edge
    limiter = Limiter(limit, store=MemoryStore(clock))
    story, start = Story([]), clock()
    for instant in demand():
        clock.set(start + instant)
        if limiter.try_acquire("user:42"):
            story.admitted.append(instant)
    return story


def draw(stories: dict[str, Story]) -> Figure:
    """One panel for the demand, and one for each limit."""
    figure = Figure(figsize=(9.6, 9.2), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.06, hspace=0.05)  # type: ignore[union-attr,call-arg]
    panels = figure.subplots(len(stories) + 1, 1, sharex=True)
    first, *others = panels
    _bars(first, demand(), DEMAND)
    _title(first, "what is asked for", f"{len(demand())} requests, limit {RATE} per {PERIOD} s")
    for panel, (name, story) in zip(others, stories.items(), strict=True):
        _panel(panel, story, has_edges="window" in name)
        _title(panel, name, f"{REMARKS[name]}  ·  at most {story.most_in(PERIOD)} in any {PERIOD} s")
    others[-1].set_xlabel("seconds", color=INK)
    figure.legend(
        handles=[
            Rectangle((0, 0), 1, 1, color=ADMITTED, label="admitted in this second"),
            Rectangle((0, 0), 1, 1, color=DEMAND, alpha=0.25, label="denied"),
            others[0].plot([], [], color=SUM, linewidth=1.6, label=f"admitted in the last {PERIOD} s")[0],
            others[0].plot([], [], color=GRID, linestyle=(0, (4, 3)), linewidth=1, label="the limit")[0],
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        labelcolor=INK,
    )
    return figure


def _panel(panel: Axes, story: Story, *, has_edges: bool) -> None:
    _bars(panel, demand(), DEMAND, alpha=0.25)
    _bars(panel, story.admitted, ADMITTED)
    changes = {0, END * 1_000_000, *story.admitted, *(instant + PERIOD * 1_000_000 for instant in story.admitted)}
    times = sorted(time for time in changes if time <= END * 1_000_000)
    seconds = [time / 1e6 for time in times]
    sums = [story.in_last(PERIOD * 1_000_000, time) for time in times]
    panel.plot(seconds, sums, color=SUM, linewidth=1.6, drawstyle="steps-post")
    above = [max(total, RATE) for total in sums]
    panel.fill_between(seconds, RATE, above, step="post", color=SUM, alpha=0.25, linewidth=0)
    panel.axhline(RATE, color=GRID, linestyle=(0, (4, 3)), linewidth=1)
    if has_edges:
        for edge in range(0, END + 1, PERIOD):
            panel.axvline(edge, color=GRID, linewidth=0.6, alpha=0.6)


def _bars(panel: Axes, instants: list[int], color: str, alpha: float = 1.0) -> None:
    heights = Counter(instant // 1_000_000 for instant in instants)
    bars = [
        MplPath([(second, 0), (second, height), (second + 0.86, height), (second + 0.86, 0), (second, 0)], closed=True)
        for second, height in sorted(heights.items())
    ]
    panel.add_patch(PathPatch(MplPath.make_compound_path(*bars), color=color, alpha=alpha, linewidth=0))
    panel.set_xlim(0, END)
    panel.set_ylim(0, 23)
    panel.set_xticks(range(0, END + 1, PERIOD))
    panel.set_yticks([0, RATE, 2 * RATE])
    panel.tick_params(colors=INK, length=3, labelsize=9)
    panel.patch.set_visible(False)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _title(panel: Axes, name: str, remark: str) -> None:
    panel.set_title(name, loc="left", color=INK, fontsize=11, fontweight="bold", pad=4)
    panel.set_title(remark, loc="right", color=INK, fontsize=9.5, pad=4)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw what each algorithm admits of one demand.")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("algorithms.svg"), metavar="FILE")
    arguments = parser.parse_args()
    mpl.rcParams.update({"svg.hashsalt": "headgate", "svg.fonttype": "path", "font.family": "DejaVu Sans"})
    stories = {name: ask(limit) for name, limit in LIMITS.items()}
    metadata = {"Date": None, "Creator": None} if arguments.to.suffix == ".svg" else None
    draw(stories).savefig(arguments.to, transparent=True, metadata=metadata)
    print(f"{len(demand())} requests, limit {RATE} per {PERIOD} s")
    print(f"{'':24}{'admitted':>10}{f'most in {PERIOD} s':>15}{'most in 4 s':>15}")
    for name, story in stories.items():
        print(f"{name:24}{len(story.admitted):>10}{story.most_in(PERIOD):>15}{story.most_in(4):>15}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

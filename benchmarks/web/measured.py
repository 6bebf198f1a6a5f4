"""What was measured of a framework's apps, or of calls and tasks: medians, and what limits add to them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable
from typing import Final, NamedTuple

BARE: Final = "bare"
OURS: Final = "ours"

Rounds = dict[str, list[float]]
"""By the name of an app, its number in each round."""


class Pace(NamedTuple):
    """How much is measured."""

    rounds: int
    chunk: int
    """Requests of each app in a round."""


class Line(NamedTuple):
    """What was measured of one app."""

    app: str
    own: float
    """Its median, in the measurement's unit."""
    added: float | None
    """How much more than the bare app; None for that itself."""
    of_bare: float
    """As a share of the bare app's."""


class Measured(NamedTuple):
    """One measurement."""

    title: str
    unit: str
    lines: list[Line]
    is_added_time: bool = True
    """Is it the time that limits add? Then it has a line in the table of all frameworks."""

    def line(self, app: str) -> Line:
        return next(line for line in self.lines if line.app == app)

    @property
    def usual(self) -> str | None:
        """The name of the limiter that is usual there, if one is measured."""
        return next((line.app for line in self.lines if line.app not in (BARE, OURS)), None)

    def added(self, app: str) -> float:
        """What limits add, in the measurement's unit."""
        added = self.line(app).added
        assert added is not None
        return added

    def share(self) -> float | None:
        """What ours adds, as a share of what the usual one adds; None where there is none."""
        return None if self.usual is None else self.added(OURS) / self.added(self.usual)


def measured(
    title: str, unit: str, rounds: Rounds, *, theirs: str | None = None, is_added_time: bool = True
) -> Measured:
    """What is said of the apps; `theirs` is the name of the app of that name. The first round does not count.

    Differences and ratios are taken within each round: so what slows the machine down for a while slows both down.
    """
    found = []
    base = rounds[BARE][1:]
    for name, all_numbers in rounds.items():
        numbers = all_numbers[1:]
        pairs = list(zip(numbers, base, strict=True))
        added = None if name == BARE else statistics.median(own - bare for own, bare in pairs)
        of_bare = statistics.median(own / bare for own, bare in pairs)
        said = theirs if name == "theirs" and theirs is not None else name
        found.append(Line(said, statistics.median(numbers), added, of_bare))
    return Measured(title, unit, found, is_added_time)


def shuffled(names: Iterable[str]) -> list[str]:
    """The apps in the order of a round."""
    order = list(names)
    random.shuffle(order)
    return order

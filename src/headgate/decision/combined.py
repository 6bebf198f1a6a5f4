"""One decision that was made in several steps: what was spent there comes back from each of them.

This module must not know why there are steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headgate.decision.decision import Decision
from headgate.hits import Group


class Combined(Decision):
    """One decision on all that several spends of one key took."""

    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[Decision]) -> None:
        """:param steps: allowed decisions on groups whose hits differ in their costs alone, in their order."""
        last = steps[-1]
        hits = tuple(
            hit._replace(cost=sum(step.group.hits[index].cost for step in steps))
            for index, hit in enumerate(last.group.hits)
        )
        super().__init__(Group(hits), last.now_us, True, last.facts, last.source, last._instants_us)
        self.steps: Final = tuple(reversed(steps))
        """The last step first: so they come back."""


def steps_of(decision: Decision) -> Sequence[Decision]:
    """The steps in which a decision spent, the last one first; mostly, itself alone."""
    return decision.steps if isinstance(decision, Combined) else (decision,)

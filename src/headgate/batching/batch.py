"""The words of batches, whether threads or tasks wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage
from headgate.hits import Group

MAX_GROUPS: Final = 256
"""How many groups go in one batch. A server is not to be held up by one script for more than a few milliseconds."""

Arrive = Callable[[list[Answer] | Exception], None]
"""Gets the answers to a batch, or why there are none."""
GiveBack = Callable[[list[Group]], object]
"""Gives back what was admitted for a caller that is gone. In an event loop, it returns at once."""
Overdue = Callable[[], StoreOutage]
"""Makes the error of a waiter whose deadline passes."""


def decisions(answers: list[Answer]) -> list[Decision]:
    """The decisions of one caller, who takes an outage for any of its groups as one for all.

    :raises StoreOutage: if there is one.
    """
    for answer in answers:
        if isinstance(answer, StoreOutage):
            raise answer
    return cast("list[Decision]", answers)

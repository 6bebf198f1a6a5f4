"""Batches that are judged in more than one attempt, since a calendar window may move away under one.

This module must not know how a store is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage

MAX_ATTEMPTS: Final = 4
"""The number of times that a calendar window may move away under a batch before that is an error. Twice takes a
midnight at the wrong moment."""

C = TypeVar("C")

Refused = Callable[[str], StoreOutage]
"""Makes an outage of a server's words, or of what is wrong with them."""
Attempt = Callable[[Sequence[int], int, list[Answer | None]], Plan[C, int]]
"""Judges those groups of a batch that are pending, by a guess of the server's time. It puts what was decided, or an
outage, into the answers, and returns the server's time; a group whose window has moved away has no answer."""


def in_attempts(count: int, near_us: int, attempt: Attempt[C], refused: Refused) -> Plan[C, list[Answer]]:
    """Judge so many groups.

    :param near_us: a guess of the server's time.
    """
    answers: list[Answer | None] = [None] * count
    pending: Sequence[int] = range(count)
    for _ in range(MAX_ATTEMPTS):
        near_us = yield from attempt(pending, near_us, answers)
        pending = [index for index in pending if answers[index] is None]
        if not pending:
            return [answer for answer in answers if answer is not None]
    raise refused("its clock jumps: no calendar window could be found for it")

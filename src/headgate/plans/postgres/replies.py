"""From a reply to decisions, the general way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from headgate.decision import Answer, Decision
from headgate.hits import KNOWN, Group, known

NO_ANSWER: Final = "what came is no answer to what we asked: did something else replace headgate's functions?"


def read(
    take: Callable[[], int],
    pending: Sequence[int],
    groups: Sequence[Group],
    arguments: Sequence[Sequence[tuple[Any, ...]]],
    answers: list[Answer | None],
) -> int:
    """Put what was decided on those groups that are pending into `answers`, and return the server's time. A group whose
    calendar window has moved away has no answer.
    """
    now_us = take()
    for index, of_group in zip(pending, arguments, strict=True):
        allowed = take()
        if allowed < 0:
            continue
        hits = groups[index].hits
        facts = [hit.limit.algorithm.read(take, now_us, own) for hit, own in zip(hits, of_group, strict=True)]
        group = known(groups[index]) if allowed == KNOWN else groups[index]
        answers[index] = Decision(group, now_us, allowed > 0, tuple(facts))
    return now_us

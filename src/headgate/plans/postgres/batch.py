"""The plan for any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.postgres import replies
from headgate.plans.postgres.binary import read_int8_array
from headgate.plans.postgres.commands import Install, Query, SchemaMissing
from headgate.plans.postgres.each import pack_each, read_each
from headgate.plans.postgres.packing import Terms, pack
from headgate.plans.postgres.replies import NO_ANSWER, Refused, refused_anywhere

MAX_ATTEMPTS: Final = 4
"""The number of times that a calendar window may move away under a batch before that is an error. Twice takes a
midnight at the wrong moment."""

Command = Query | Install


def decide(
    groups: Sequence[Group],
    terms: Terms,
    *,
    near_us: int,
    now_us: int | None = None,
    refused: Refused = refused_anywhere,
) -> Plan[Command, list[Answer]]:
    """Judge a batch. What is raised for it as a `StoreOutage` is of the groups that have no answer by then.

    `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests).
    """
    answers: list[Answer | None] = [None] * len(groups)
    each = pack_each(groups, terms) if now_us is None else None
    if each is not None:
        reply = yield from ask(each.query, refused)
        try:
            read_each(reply, each.shares, groups, answers)
        except (StopIteration, ValueError):
            raise refused(NO_ANSWER) from None
        return [answer for answer in answers if answer is not None]
    pending: Sequence[int] = range(len(groups))
    for _ in range(MAX_ATTEMPTS):
        packed = pack([groups[index] for index in pending], terms, near_us, now_us)
        try:
            reply = yield from ask(packed.query, refused)
        except StoreOutage as outage:
            if len(pending) == len(groups):
                raise
            return [outage if answer is None else answer for answer in answers]
        try:
            near_us = replies.read(iter(reply).__next__, pending, groups, packed.arguments, answers)
        except StopIteration:
            raise refused(NO_ANSWER) from None
        pending = [index for index in pending if answers[index] is None]
        if not pending:
            return [answer for answer in answers if answer is not None]
    raise refused("its clock jumps: no calendar window could be found for it")


def ask(query: Query, refused: Refused) -> Plan[Command, Sequence[int]]:
    """Call a function, and make the schema first where it is missing."""
    reply: Any = yield query
    if isinstance(reply, SchemaMissing):
        yield Install()
        reply = yield query
    try:
        return read_int8_array(reply) or (0,)
    except (TypeError, ValueError):
        raise refused(NO_ANSWER) from None

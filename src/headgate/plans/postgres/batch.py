"""The plan for any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.attempts import Refused, in_attempts
from headgate.plans.postgres import replies
from headgate.plans.postgres.binary import read_int8_array
from headgate.plans.postgres.commands import Install, Query, SchemaMissing
from headgate.plans.postgres.each import Each, pack_each, read_each
from headgate.plans.postgres.packing import Terms, pack
from headgate.plans.postgres.replies import NO_ANSWER

Command = Query | Install


def decide(
    groups: Sequence[Group], terms: Terms, *, near_us: int, now_us: int | None = None, refused: Refused
) -> Plan[Command, list[Answer]]:
    """Judge a batch. A `StoreOutage` is the answer of the groups that have none by then.

    `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests).
    """
    each = pack_each(groups, terms) if now_us is None else None

    def attempt(pending: Sequence[int], near_us: int, answers: list[Answer | None]) -> Plan[Command, int]:
        packed = each or pack([groups[index] for index in pending], terms, near_us, now_us)
        try:
            reply = yield from ask(packed.query, refused)
        except StoreOutage as outage:
            answers[:] = [outage if answer is None else answer for answer in answers]
            return near_us
        try:
            if isinstance(packed, Each):
                return read_each(reply, packed.shares, groups, answers)
            return replies.read(iter(reply).__next__, pending, groups, packed.arguments, answers)
        except (StopIteration, ValueError):
            raise refused(NO_ANSWER) from None

    return in_attempts(len(groups), near_us, attempt, refused)


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

"""The plan for any batch."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.attempts import Refused, in_attempts
from headgate.plans.redis import packing, replies
from headgate.plans.redis.replies import refused_anywhere
from headgate.plans.redis.script import Script, run
from headgate.plans.redis.single import decide_single, is_single


def decide(
    groups: Sequence[Group],
    *,
    prefix: str,
    near_us: int,
    now_us: int | None = None,
    refused: Refused = refused_anywhere,
) -> Plan[Script, list[Answer]]:
    """Judge a batch; each group gets its decision, or an outage of its own where its key holds what is not ours.

    `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests); `refused`
    makes an outage of the server's words.
    """
    if len(groups) == 1 and now_us is None and is_single(groups[0]):
        return decide_single(groups[0], prefix, refused)

    def attempt(pending: Sequence[int], near_us: int, answers: list[Answer | None]) -> Plan[Script, int]:
        parts = packing.split(groups, pending, near_us)
        reply = yield from run(packing.pack(parts, groups, prefix, now_us))
        if isinstance(reply, StoreOutage):
            answers[:] = [reply if answer is None else answer for answer in answers]
            return near_us
        return replies.read(reply, parts, groups, answers, refused)

    return in_attempts(len(groups), near_us, attempt, refused)


def singly(plan: Plan[Script, list[Answer]]) -> Plan[list[Script], list[Answer]]:
    """The same plan, for whoever sends lists of scripts and receives lists of replies: its lists have one each."""
    try:
        script = next(plan)
        while True:
            try:
                (reply,) = yield [script]
            except StoreOutage as outage:
                reply = outage
            script = plan.send(reply)
    except StopIteration as done:
        answers: list[Answer] = done.value
        return answers

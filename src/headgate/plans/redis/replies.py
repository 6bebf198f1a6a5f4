"""From a reply to decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from headgate.algorithms import token_bucket
from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import KNOWN, Group, known
from headgate.limits import Limit, TokenBucket
from headgate.plans.attempts import Refused
from headgate.plans.redis.packing import One, Run

NO_ANSWER: Final = "what came is no answer to what we asked: is this a Redis or Valkey server?"
STRANGE: Final = -9007199254740991
"""In the reply to a run: the next hit was judged the general way, and the reply of a group follows."""
FOREIGN: Final = -9007199254740990
"""In the reply to a run: this key holds what is not ours."""


def refused_anywhere(text: str) -> StoreOutage:
    """Make an outage of a server's words, where it is not known which server that is."""
    return StoreUnavailable("redis", text)


def read(
    reply: Any, parts: list[Run | One], groups: Sequence[Group], answers: list[Answer | None], refused: Refused
) -> int:
    """Put what was decided on the parts of a batch into `answers`, and return the server's time. A group whose calendar
    window has moved away has no answer.
    """
    try:
        if {*map(type, reply)} - {int, bytes, str}:
            raise TypeError(reply)
        take = iter(reply).__next__
        now_us: int = take()
        for part in parts:
            if isinstance(part, One):
                answers[part.number] = _one(take, now_us, groups[part.number], part.arguments, refused)
                continue
            arguments = part.arguments
            has_parts = arguments[2] > 1
            for index in part.indices:
                if (q := take()) == STRANGE:
                    answers[index] = _one(take, now_us, groups[index], (arguments,), refused)
                    continue
                r = take() if has_parts else 0
                if q == FOREIGN:
                    answers[index] = refused("one of its keys holds something else than a token bucket")
                else:
                    answers[index] = _plain(groups[index], arguments, now_us, q, r)
    except (TypeError, StopIteration):
        raise refused(NO_ANSWER) from None
    return now_us


def _one(
    take: Callable[[], Any], now_us: int, group: Group, arguments: Sequence[tuple[Any, ...]], refused: Refused
) -> Answer | None:
    allowed = take()
    if allowed == -2:
        return refused(_text(take()))
    if allowed < 0:
        return None
    facts = [hit.limit.algorithm.read(take, now_us, own) for hit, own in zip(group.hits, arguments, strict=True)]
    return Decision(known(group) if allowed == KNOWN else group, now_us, allowed > 0, tuple(facts))


def read_single(reply: Any, group: Group, limit: Limit, arguments: tuple[Any, ...], refused: Refused) -> Answer:
    """Read what was decided on one single hit."""
    if type(reply) is list and len(reply) > 2:
        now_us, q, r = reply[:3]
        if len(reply) == 3 and type(limit) is TokenBucket and type(now_us) is type(q) is type(r) is int:
            return _plain(group, arguments, now_us, q, r)
        if q == -2:
            return refused(_text(r))
        if set(map(type, reply)) == {int}:
            try:
                facts = limit.algorithm.read(iter(reply[2:]).__next__, now_us, arguments)
            except StopIteration:
                return refused(NO_ANSWER)
            return Decision(group, now_us, q == 1, (facts,))
    return refused(NO_ANSWER)


def _plain(group: Group, arguments: tuple[Any, ...], now_us: int, q: int, r: int) -> Decision:
    """The decision on a single hit, as token_bucket_single.lua answers it: the debt is (q, r) and the hit was allowed,
    or it is (-q - 1, r) and the hit was denied.
    """
    is_allowed = q >= 0
    tat = (now_us + (q if is_allowed else -q - 1)) * arguments[2] + r
    facts = token_bucket.plain_facts(tat, now_us, arguments, is_allowed=is_allowed)
    return Decision(group, now_us, is_allowed, (facts,))


def _text(reply: Any) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)

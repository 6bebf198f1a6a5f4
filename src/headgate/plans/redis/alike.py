"""The plan for single hits of one token bucket that are alike: they differ in their keys alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from headgate.decision import Answer, SingleHitDecision
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import SingleHit
from headgate.keys import is_plain, storage_key_frame
from headgate.limits import Limit
from headgate.plans.attempts import Refused
from headgate.plans.redis import replies
from headgate.plans.redis.batch import decide
from headgate.plans.redis.packing import Run, run_words
from headgate.plans.redis.replies import FOREIGN, NO_ANSWER, refused_anywhere
from headgate.plans.redis.resp import word
from headgate.plans.redis.script import Script, compose, run


class BucketSingleHit(SingleHit):
    """A single-hit request to a token bucket, with all packed of a call but its keys."""

    __slots__ = ("_before", "_heads", "_rate", "_sha", "_tail", "_text", "_words")

    def __init__(self, limit: Limit, name: str, cost: int, prefix: str) -> None:
        super().__init__(limit, name, cost)
        self._rate: int = limit.arguments(cost, 0, "")[2]
        self._sha, self._text = compose(frozenset(("tb",)))
        self._before = f"{word('EVALSHA')}{word(self._sha)}"
        self._words = word("") + run_words(limit, cost)
        begin, end, size = storage_key_frame(prefix, name, "tb")
        self._heads, self._tail = _Heads(begin, size), f"{end}\r\n"

    def pack(self, keys: Sequence[str]) -> Script | None:
        """The call for some usable keys; None if there is something in them to escape."""
        if not is_plain("".join(keys)):
            return None
        heads, tail, size = self._heads, self._tail, len(keys)
        digits = len(str(size))
        packed = tail.join([heads[len(key)] + key for key in keys])
        words = self._words % (digits, size)
        packed = f"*{size + 14}\r\n{self._before}${digits}\r\n{size}\r\n{packed}{tail}{words}"
        return Script(self._sha, self._text, packed.encode())

    def read(self, reply: Any, keys: Sequence[str]) -> list[Answer] | None:
        """The decisions; None unless all are plain."""
        if type(reply) is not list or {*map(type, reply)} != {int}:
            return None
        now_us, *debts = reply
        rate = self._rate
        if len(debts) != len(keys) * (1 if rate == 1 else 2):
            return None
        if rate > 1:
            debts, parts = debts[::2], debts[1::2]
        least = min(debts)
        if least <= FOREIGN:
            return None
        verdicts: Iterable[bool] = repeat(True)
        if least < 0:
            verdicts = [q >= 0 for q in debts]
            debts = [q if q >= 0 else -q - 1 for q in debts]
        if rate > 1:
            debts = [q * rate + r for q, r in zip(debts, parts, strict=True)]
        answers: list[Answer] = []
        for key, allowed, debt in zip(keys, verdicts, debts, strict=False):
            decision = SingleHitDecision()
            decision.asked = self
            decision.key = key
            decision.now_us = now_us
            decision.allowed = allowed
            decision.debt = debt
            answers.append(decision)
        return answers


class _Heads(dict[int, str]):
    """The text before a key that has nothing to escape, by its length."""

    def __init__(self, begin: str, size: int) -> None:
        super().__init__()
        self._begin = begin
        self._size = size

    def __missing__(self, length: int) -> str:
        head = self[length] = f"${self._size + length}\r\n{self._begin}"
        return head


def decide_alike(
    request: BucketSingleHit, keys: Sequence[str], *, prefix: str, refused: Refused = refused_anywhere
) -> Plan[Script, list[Answer]]:
    """As `decide`, by the server's clock, for single hits that are alike: by the fast path, if there is nothing in the
    keys to escape and nothing strange in the reply.
    """
    script = request.pack(keys)
    if script is None:
        return (yield from decide([request.group(key) for key in keys], prefix=prefix, near_us=0, refused=refused))
    reply = yield from run(script)
    if isinstance(reply, StoreOutage):
        return [reply] * len(keys)
    answers = request.read(reply, keys)
    return _read_strange(reply, request, keys, refused) if answers is None else answers


def _read_strange(reply: Any, request: BucketSingleHit, keys: Sequence[str], refused: Refused) -> list[Answer]:
    """Read a reply of which not all is plain."""
    groups = [request.group(key) for key in keys]
    answers: list[Answer | None] = [None] * len(groups)
    arguments = request.limit.arguments(request.cost, 0, "")
    replies.read(
        reply, [Run([*range(len(groups))], [group.hits[0] for group in groups], arguments)], groups, answers, refused
    )
    return [refused(NO_ANSWER) if answer is None else answer for answer in answers]

"""The plan for one single hit: the commonest call, in the fewest words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from headgate.decision import Answer, ToldDecision
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group, Hit
from headgate.keys import MAX_PLAIN, is_plain, storage_key, storage_key_frame
from headgate.limits import Limit, TokenBucket
from headgate.plans.attempts import Refused
from headgate.plans.redis.replies import read_single
from headgate.plans.redis.resp import word
from headgate.plans.redis.script import Script, compose, run

MAX_FRAMES: Final = 1024
"""For how many costs of one limit a call is kept packed."""


class _Frame(NamedTuple):
    """All of a call but its key."""

    sha: str
    text: str
    arguments: tuple[Any, ...]
    before: bytes
    after: bytes


@functools.lru_cache(maxsize=4096)
def _frame(limit: Limit, cost: int) -> _Frame:
    arguments = limit.arguments(cost, 0, "")
    wired = limit.algorithm.wire(arguments)
    words = wired if type(limit) is TokenBucket else ("", "spend", 0, 1, 1 + len(wired), limit.code, *wired)
    sha, text = compose(frozenset((limit.code,)))
    before = f"*{4 + len(words)}\r\n{word('EVALSHA')}{word(sha)}{word(1)}"
    return _Frame(sha, text, arguments, before.encode(), "".join(map(word, words)).encode())


def is_single(group: Group) -> bool:
    """Is it one hit to spend now, whose arguments depend on its cost alone?"""
    return group.is_plain and group.hits[0].limit.is_plain


def decide_single(group: Group, prefix: str, refused: Refused) -> Plan[Script, list[Answer]]:
    """Judge a group that `is_single`."""
    limit, key, name, cost, *_ = group.hits[0]
    frame = _frame(limit, cost)
    stored_at = storage_key(prefix, key, name, limit.code).encode()
    packed = b"%b$%d\r\n%b\r\n%b" % (frame.before, len(stored_at), stored_at, frame.after)
    reply = yield from run(Script(frame.sha, frame.text, packed))
    if isinstance(reply, StoreOutage):
        return [reply]
    return [read_single(reply, group, limit, frame.arguments, refused)]


def single(
    limit: Limit, name: str, prefix: str, refused: Refused
) -> tuple[Callable[[str, int], bytes | None], Callable[[Any, str, int], Answer]]:
    """The same without the plan, which takes a tenth of the time of a call, for hits of one plain limit: what packs a
    call by digest for a key and a cost (None: ask with the plan), and what reads the reply.
    """
    begin, end, size = storage_key_frame(prefix, name, limit.code)
    begin_bytes, end_bytes = b"\r\n" + begin.encode(), end.encode() + b"\r\n"
    frames: dict[int, tuple[bytes, bytes, tuple[Any, ...]]] = {}
    asked, is_bucket = (limit, name), type(limit) is TokenBucket
    rate = limit.arguments(1, 0, "")[2] if is_bucket else 1

    def frame(cost: int) -> tuple[bytes, bytes, tuple[Any, ...]]:
        if len(frames) >= MAX_FRAMES:
            frames.clear()
        _, _, arguments, before, after = _frame(limit, cost)
        made = frames[cost] = before + b"$", end_bytes + after, arguments
        return made

    def pack(key: str, cost: int) -> bytes | None:
        if not 0 < len(key) <= MAX_PLAIN or not is_plain(key):
            return None
        before, after, _ = frames.get(cost) or frame(cost)
        return b"%b%d%b%b%b" % (before, size + len(key), begin_bytes, key.encode(), after)

    def read(reply: Any, key: str, cost: int) -> Answer:
        is_debt = is_bucket and type(reply) is list and len(reply) == 3
        if is_debt and type(reply[2]) is type(reply[1]) is int and reply[1] >= 0:  # nearly always
            now_us, q, r = reply
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = True
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = (now_us + q) * rate + r
            return decision
        arguments = (frames.get(cost) or frame(cost))[2]
        return read_single(reply, Group((Hit(limit, key, name, cost),)), limit, arguments, refused)

    return pack, read

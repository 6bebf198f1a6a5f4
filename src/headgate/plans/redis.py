"""The plan for Redis and Valkey: one script call for a whole batch.

Asks for `Script` commands. The reply is the script's list of integers, or `ScriptMissing` where the server does not
have the script (any more).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.keys import storage_key
from headgate.limits import Limit

FILES: Final = {
    "tb": "token_bucket.lua",
    "fw": "fixed_window.lua",
    "sw": "sliding_window.lua",
    "sl": "sliding_log.lua",
    "cc": "concurrency.lua",
}
NO_ANSWER: Final = "what came is no answer to what we asked: is this a Redis or Valkey server?"
MAX_ATTEMPTS: Final = 4
"""How often a calendar window may move away under a batch before that is an error. Twice takes a midnight at the
wrong moment."""


class ScriptMissing:
    """The reply of a server that does not know the script: it was restarted, flushed, or never had it."""


class Script(NamedTuple):
    """Run a script: by its digest, or with its text where `is_whole`."""

    sha: str
    text: str
    is_whole: bool
    keys: list[str]
    arguments: Sequence[str | int]
    packed: bytes = b""
    """The call by digest as it goes over the wire, where it was cheap to make."""


@functools.cache
def compose(codes: frozenset[str]) -> tuple[str, str]:
    """The script for a set of algorithms, as `(sha, text)`. What a batch does not use is not sent, nor run."""
    folder = resources.files("headgate.algorithms")
    names = ["clock.lua", "prelude.lua", *(FILES[code] for code in sorted(codes)), "decide.lua"]
    if "tb" in codes:
        names.insert(1, "token_bucket_plain.lua")
    # A block each, so that their local names keep apart; those of clock and prelude are everybody's.
    texts = [(folder / name).read_text("utf-8") for name in names]
    shared = ("clock.lua", "prelude.lua")
    text = "\n".join(part if name in shared else f"do\n{part}end\n" for name, part in zip(names, texts, strict=True))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text


def _refused(text: str) -> StoreOutage:
    return StoreUnavailable("redis", text)


def decide(
    groups: Sequence[Group],
    *,
    prefix: str,
    near_us: int,
    now_us: int | None = None,
    refused: Callable[[str], StoreOutage] = _refused,
) -> Plan[Script, list[Decision | StoreOutage]]:
    """Judge a batch; each group gets its decision, or an outage of its own where its key holds what is not ours.

    `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests); `refused`
    makes an outage of the server's words.
    """
    if len(groups) == 1 and now_us is None and _is_lone(groups[0]):
        return _decide_lone(groups[0], prefix, refused)
    return _decide_all(groups, prefix, near_us, now_us, refused)


def _decide_all(
    groups: Sequence[Group], prefix: str, near_us: int, now_us: int | None, refused: Callable[[str], StoreOutage]
) -> Plan[Script, list[Decision | StoreOutage]]:
    decisions: dict[int, Decision | StoreOutage] = {}
    pending = list(range(len(groups)))
    for _ in range(MAX_ATTEMPTS):
        command, arguments = _pack([groups[index] for index in pending], prefix, near_us, now_us)
        reply = yield command
        if isinstance(reply, ScriptMissing):
            reply = yield command._replace(is_whole=True)
        try:
            near_us = _read(reply, [(index, groups[index]) for index in pending], arguments, decisions, refused)
        except (TypeError, StopIteration):
            raise refused(NO_ANSWER) from None
        pending = [index for index in pending if index not in decisions]
        if not pending:
            return [decisions[index] for index in range(len(groups))]
    raise refused("its clock jumps: no calendar window could be found for it")


def _is_lone(group: Group) -> bool:
    """Is it the commonest call: one hit to spend now, whose arguments depend on its cost alone?"""
    return len(group.hits) == 1 and group.max_wait_us == 0 and group.action == "spend" and group.hits[0].limit.is_plain


def _decide_lone(
    group: Group, prefix: str, refused: Callable[[str], StoreOutage]
) -> Plan[Script, list[Decision | StoreOutage]]:
    """As `decide`, straight through. All of the call but its key is the same each time, and packed once."""
    limit, key, name, cost = group.hits[0][:4]
    sha, text, words, arguments, before, after = _frame(limit, cost)
    key = storage_key(prefix, key, name, limit.code)
    encoded = key.encode()
    script = Script(sha, text, False, [key], words, b"%b$%d\r\n%b\r\n%b" % (before, len(encoded), encoded, after))
    reply = yield script
    if isinstance(reply, ScriptMissing):
        reply = yield script._replace(is_whole=True)
    if type(reply) is list and len(reply) > 2 and reply[1] == -2:
        return [refused(_text(reply[2]))]
    try:
        take = iter(reply).__next__
        now_us, allowed = take(), take()
        facts = limit.algorithm.read(take, now_us, arguments)
        if set(map(type, reply)) == {int}:
            return [Decision(group, now_us, allowed == 1, (facts,))]
    except (TypeError, StopIteration):
        pass
    return [refused(NO_ANSWER)]


def _pack(
    groups: Sequence[Group], prefix: str, near_us: int, now_us: int | None
) -> tuple[Script, list[tuple[Any, ...]]]:
    keys: list[str] = []
    words: list[str | int] = ["" if now_us is None else now_us]
    kept: list[tuple[Any, ...]] = []
    codes = set()
    for hits, max_wait_us, action in groups:
        words += (action, max_wait_us, len(hits), 0)
        begin = len(words)
        for limit, key, name, cost, holder, receipt, _ in hits:
            code = limit.code
            codes.add(code)
            keys.append(storage_key(prefix, key, name, code))
            arguments = limit.arguments(cost, near_us, holder)
            kept.append(arguments)
            words.append(code)
            words += limit.algorithm.wire(arguments)
            if action == "give_back":
                words += limit.algorithm.wire_receipt(arguments, receipt)
        words[begin - 1] = len(words) - begin
    sha, text = compose(frozenset(codes))
    return Script(sha, text, False, keys, words), kept


@functools.lru_cache(maxsize=4096)
def _frame(limit: Limit, cost: int) -> tuple[str, str, Sequence[str | int], tuple[Any, ...], bytes, bytes]:
    """What `_pack` makes of a lone hit, and the bytes (RESP) before and after its key."""
    arguments = limit.arguments(cost, 0, "")
    wired = limit.algorithm.wire(arguments)
    words = ("", "spend", 0, 1, 1 + len(wired), limit.code, *wired)
    sha, text = compose(frozenset((limit.code,)))
    before = f"*{4 + len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in ("EVALSHA", sha, "1"))
    after = "".join(f"${len(str(word))}\r\n{word}\r\n" for word in words)
    return sha, text, words, arguments, before.encode(), after.encode()


def _read(
    reply: list[Any],
    groups: list[tuple[int, Group]],
    arguments: list[tuple[Any, ...]],
    decisions: dict[int, Decision | StoreOutage],
    refused: Callable[[str], StoreOutage],
) -> int:
    """Put what was decided into `decisions`, and return the server's time."""
    take = iter(reply).__next__
    now_us: int = take()
    at = 0
    for index, group in groups:
        allowed = take()
        if allowed >= 0:
            facts = []
            for number, hit in enumerate(group.hits, at):
                facts.append(hit.limit.algorithm.read(take, now_us, arguments[number]))
            decisions[index] = Decision(group, now_us, allowed == 1, tuple(facts))
        elif allowed == -2:
            decisions[index] = refused(_text(take()))
        at += len(group.hits)
    return now_us


def _text(reply: Any) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)

"""The plan for Redis and Valkey: one script call for a whole batch.

Asks for `Script` commands. The reply is the script's list of integers, or `ScriptMissing` where the server does not have the script (any more).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.hits import Group
from headgate.keys import storage_key

FILES: Final = {
    "tb": "token_bucket.lua",
    "fw": "fixed_window.lua",
    "sw": "sliding_window.lua",
    "sl": "sliding_log.lua",
    "cc": "concurrency.lua",
}
MAX_ATTEMPTS: Final = 4
"""How often a calendar window may move away under a batch before that is an error. Twice takes a midnight at the wrong moment."""


class ScriptMissing:
    """The reply of a server that does not know the script: it was restarted, flushed, or never had it."""


class Script(NamedTuple):
    """Run a script: by its digest, or with its text where `is_whole`."""

    sha: str
    text: str
    is_whole: bool
    keys: list[str]
    arguments: list[str | int]


@functools.cache
def compose(codes: frozenset[str]) -> tuple[str, str]:
    """The script for a set of algorithms, as `(sha, text)`. What a batch does not use is not sent, nor run."""
    folder = resources.files("headgate.algorithms")
    parts = [(folder / "prelude.lua").read_text("utf-8")]
    for code in sorted(codes):
        parts.append("do\n" + (folder / FILES[code]).read_text("utf-8") + "end\n")
    parts.append((folder / "decide.lua").read_text("utf-8"))
    text = "\n".join(parts)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text


def decide(
    groups: Sequence[Group], *, prefix: str, near_us: int, now_us: int | None = None
) -> Plan[Script, list[Decision]]:
    """Judge a batch. `near_us` is a guess of the server's time, for calendar windows; `now_us` replaces its clock (in tests)."""
    decisions: dict[int, Decision] = {}
    pending = list(range(len(groups)))
    for _ in range(MAX_ATTEMPTS):
        command, arguments = _pack([groups[index] for index in pending], prefix, near_us, now_us)
        reply = yield command
        if isinstance(reply, ScriptMissing):
            reply = yield command._replace(is_whole=True)
        near_us = _read(reply, [(index, groups[index]) for index in pending], arguments, decisions)
        pending = [index for index in pending if index not in decisions]
        if not pending:
            return [decisions[index] for index in range(len(groups))]
    raise ValueError("the server's clock jumps: no calendar window could be found for it")


def _pack(
    groups: Sequence[Group], prefix: str, near_us: int, now_us: int | None
) -> tuple[Script, list[tuple[Any, ...]]]:
    keys: list[str] = []
    words: list[str | int] = ["" if now_us is None else now_us]
    kept: list[tuple[Any, ...]] = []
    codes = set()
    for hits, max_wait_us, action in groups:
        words += (action, max_wait_us, len(hits))
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
    sha, text = compose(frozenset(codes))
    return Script(sha, text, False, keys, words), kept


def _read(
    reply: list[int],
    groups: list[tuple[int, Group]],
    arguments: list[tuple[Any, ...]],
    decisions: dict[int, Decision],
) -> int:
    """Put what was decided into `decisions`, and return the server's time."""
    take = iter(reply).__next__
    now_us = take()
    at = 0
    for index, group in groups:
        allowed = take()
        if allowed >= 0:
            facts = tuple(
                hit.limit.algorithm.read(take, now_us, arguments[at + number]) for number, hit in enumerate(group.hits)
            )
            decisions[index] = Decision(group, now_us, allowed == 1, facts)
        at += len(group.hits)
    return now_us

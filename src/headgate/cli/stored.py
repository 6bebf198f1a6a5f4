"""Entries of a store in words: how much is owed, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from headgate.limits import KINDS

if TYPE_CHECKING:
    from headgate.stores import Entry

WORDS = {
    "tb": "token bucket",
    "fw": "fixed window",
    "sw": "sliding window",
    "sl": "sliding log",
    "cc": "concurrency",
    "pn": "penalty",
}


class Told(NamedTuple):
    """An entry, as it is told."""

    key: str
    limit: str
    """The limit's name."""
    algorithm: str
    owes: str
    """The debt in words, as far as the state tells it without the limit."""
    left_s: float
    """After so many seconds, nothing is."""
    is_blocked: bool
    """Is the key blocked by a penalty?"""


def is_mark(entry: Entry) -> bool:
    """Is it not a key's state, but the mark of a group that is to count once?"""
    return "\0" in entry.key


def told(entry: Entry, now_s: float | None = None) -> Told:
    """Tell of an entry, by this machine's clock or at an instant of the store's."""
    left_s = max(0.0, entry.until_us / 1e6 - (time.time() if now_s is None else now_s))
    owes, is_blocked = _owed(entry, left_s)
    return Told(entry.key, entry.name, WORDS.get(entry.code, entry.code), owes, left_s, is_blocked)


def _owed(entry: Entry, left_s: float) -> tuple[str, bool]:
    try:
        state = KINDS[entry.code].algorithm.load(entry.text)
    except (KeyError, ValueError):  # a newer version has written it
        return "not understood by this version", False
    match entry.code:
        case "tb":
            return f"full again in {duration(left_s)}", False
        case "fw":
            return f"{state[1]:,} spent", False
        case "sw":
            return f"{state[1]:,} spent, {state[2]:,} in the window before", False
        case "sl":
            return f"{sum(cost for _, cost in state.hits()):,} spent", False
        case "cc":
            return f"{len(state.slots):,} slot{'s' if len(state.slots) > 1 else ''} held", False
        case _:
            ends, instants = state
            return (
                (f"blocked for {duration(left_s)}", True)
                if ends
                else (f"{len(instants):,} denial{'s' if len(instants) > 1 else ''}", False)
            )


def duration(seconds: float) -> str:
    """A time in words: `0.35 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"

"""The claims and marks that decisions share with their copies, so that their tokens come back once.

Decisions are copied by pickling and copying, and by forks, which nobody sees. What is known of a few of them only is
kept beside them. Nothing here is locked: `setdefault` is one step, for other threads and for the handler of a signal
that comes in between. This module must not know what a decision is, but that it says what it is.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import weakref
from collections.abc import Callable
from typing import Final

_HOUR_US: Final = 3_600_000_000
_MAX_TOLD: Final = 10_000

_claims: Final[weakref.WeakKeyDictionary[object, object]] = weakref.WeakKeyDictionary()
"""Of decisions whose tokens have been returned or settled: who did."""
_marks: Final[weakref.WeakKeyDictionary[object, str]] = weakref.WeakKeyDictionary()
"""The marks of decisions of which there are copies."""


class _Forks:
    """Whether other processes may have copies of decisions that nobody has seen being made: those of a fork."""

    def __init__(self) -> None:
        self.last_us: int | None = None
        """When this process forked, or was forked, the last time, by our clock; None if never."""
        self.told: dict[str, int] = {}
        """The number of decisions that say the same and have got a mark here, by mark."""

    def note(self) -> None:
        """Take note that we are about to fork."""
        self.last_us = time.time_ns() // 1_000

    def may_share(self, now_us: int) -> bool:
        """May a decision of this time have been made before the fork? An hour is allowed for clocks that differ. A
        decision of a time that has not come yet is by a clock that has nothing to do with ours.
        """
        last_us = self.last_us
        return last_us is not None and not last_us + _HOUR_US < now_us <= time.time_ns() // 1_000 + _HOUR_US

    def mark(self, told: object) -> str:
        """The mark that a decision gets in each process that shares it unseen: what it says. Another one that says the
        same in one process, as only a clock that stands still brings about, is numbered.
        """
        mark = hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()
        if len(self.told) >= _MAX_TOLD:
            self.told.clear()
        number = self.told[mark] = self.told.get(mark, 0) + 1
        return mark if number == 1 else f"{mark}-{number}"


_forks: Final = _Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.note)


def claim(decision: object) -> bool:
    """Claim the tokens of a decision, to give them back. False if somebody has done so before."""
    claim = object()
    return _claims.setdefault(decision, claim) is claim


def is_claimed(decision: object) -> bool:
    """Has somebody claimed its tokens?"""
    return decision in _claims


def mark(decision: object, now_us: int, say: Callable[[], object]) -> str | None:
    """The mark that tells a decision of `now_us` and its copies from all others; None if it has no copies. `say` says
    all of it, the same in all processes.
    """
    mark = _marks.get(decision)
    if mark is None and _forks.may_share(now_us):
        mark = _marks.setdefault(decision, _forks.mark(say()))
    return mark


def mark_anew(decision: object) -> str:
    """The mark of a decision that is about to be copied for the first time."""
    return _marks.setdefault(decision, secrets.token_hex(8))


def restore(decision: object, mark: str, *, claimed: bool) -> None:
    """Let a copy have in common what it is to have in common with what it was made of."""
    _marks[decision] = mark
    if claimed:
        _claims[decision] = None

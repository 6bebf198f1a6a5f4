"""Tokens that are held of one key, and for how long they are good.

What is drawn is spent in the store at once. When it is used later, it must still be good, or more could pass in some
interval than the limit allows:

- **Token bucket.** Each token occupies a stretch of the bucket's future, in which its debt is earned back (the
  theoretical arrival times of GCRA; see algorithms/token_bucket.py). A lease is such a stretch, from `front` to `end`.
  A token may be used until its own stretch begins: then the tokens used within any interval `[a, b]` have disjoint
  stretches within `[a, b + burst / rate]`, which are no more than `burst + rate * (b - a)`. So a lease melts from its
  front, just as fast as the bucket fills, and what is lost of it is lost to nobody else.
- **Fixed and sliding windows.** A token is good for the window in which it was drawn.

The store's time is taken to be the latest that it can be: when it decided, and what has passed here since the request
was *sent*.

A signal's handler may spend, draw or give back in the middle of a call of the same thread. So what is read of a lease
and what is written of it stand together, without a call in between: handlers come in after calls only.
"""

from __future__ import annotations

from typing import Any

from headgate.algorithms import Facts
from headgate.decision import Decision
from headgate.limits import FixedWindow, Limit


class Held:
    """Tokens that are held of one key."""

    __slots__ = ("drawn", "idle_at_us", "offset_us", "receipt")

    def __init__(self, drawn: int, receipt: Any, offset_us: int, idle_at_us: int) -> None:
        self.drawn = drawn
        self.receipt = receipt
        self.offset_us = offset_us
        """The store's time, at the latest, less ours."""
        self.idle_at_us = idle_at_us
        """The time at which what is left goes back, by our clock."""


class Stretch(Held):
    """Those of a token bucket, as a stretch of its future, in parts of a microsecond."""

    __slots__ = ("_begin", "_melted", "_rate", "_token", "end", "front", "melts_at_ns")

    def __init__(self, limit: Limit, decision: Decision, offset_us: int, idle_at_us: int) -> None:
        _, _, self.end, credited = decision.facts[0]
        super().__init__(decision.cost, (self.end, credited, True), offset_us, idle_at_us)
        self._token, _, self._rate = limit.arguments(1, 0, "")
        self.front: int = self.end - decision.cost * self._token
        self._begin, self._melted = self.front, 0
        self.melts_at_ns = 0
        """Before this instant by our clock, nothing of it has melted: a spend need not look. It may be later."""

    def melt(self, at_ns: int) -> None:
        """Lose what lies before now."""
        now = (at_ns // 1_000 + self.offset_us) * self._rate
        if now > self.front:
            self._melted += now - self.front
            self.front = now
        self.melts_at_ns = (self.front // self._rate - self.offset_us + 1) * 1_000

    @property
    def spent(self) -> int:
        """The number of tokens that were used."""
        spent: int = (self.front - self._begin - self._melted) // self._token
        return spent

    def add(self, before: Stretch | Share, left: int) -> None:
        """Keep what was left of an earlier lease: of a stretch, that is too little to keep."""

    def close(self) -> None:
        """Hold nothing more: somebody may be about to spend who found it just before."""
        self.end = self.front

    def unused(self, at_us: int) -> int:
        """The number of tokens that are still good."""
        unused: int = max(0, self.end - max(self.front, (at_us + self.offset_us) * self._rate)) // self._token
        return unused


class Share(Held):
    """Those of a window, until it ends."""

    __slots__ = ("ends_at_ns", "facts", "spent")

    def __init__(self, limit: Limit, decision: Decision, offset_us: int, idle_at_us: int) -> None:
        self.facts: Facts = decision.facts[0]
        start_us = self.facts[0]
        super().__init__(decision.cost, start_us, offset_us, idle_at_us)
        self.spent = 0
        end_us = limit.window(start_us)[1] if isinstance(limit, FixedWindow) else start_us + limit.period_us
        self.ends_at_ns = (end_us - offset_us) * 1_000
        """The end of the window, by our clock."""

    def add(self, before: Stretch | Share, left: int) -> None:
        """Keep what was left of an earlier lease, in the same window."""
        if before.receipt == self.receipt:
            self.drawn += left

    def close(self) -> None:
        """Hold nothing more: somebody may be about to spend who found it just before."""
        self.drawn = self.spent

    def unused(self, at_us: int) -> int:
        """The number of tokens that are still good."""
        return self.drawn - self.spent if at_us * 1_000 < self.ends_at_ns else 0

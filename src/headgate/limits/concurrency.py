"""The limit of how many are at it at the same time."""

from __future__ import annotations

from typing import ClassVar, SupportsIndex

from headgate.algorithms import Algorithm, Facts, concurrency
from headgate.errors import LimitOutOfBounds
from headgate.limits.limit import Duration, Limit, count_of, period_of, period_text


class Concurrency(Limit):
    """At most `slots` at the same time. A holder that crashed loses its slot `ttl` after its last sign of life.

    `limiter.hold(...)` renews the slot for as long as it is held, so `ttl` bounds how long a crash is felt, not how
    long the work may take.

    :param slots: how many may be held at once, an integer from 1 to 100,000.
    :param ttl: how long a slot stays held without a renewal, in seconds or as a `timedelta`.
    :raises LimitOutOfBounds: if a number is not usable.
    """

    MAX_SLOTS: ClassVar[int] = 100_000
    code = "cc"
    algorithm: ClassVar[
        Algorithm[concurrency.State, concurrency.Arguments, concurrency.Judged, concurrency.Receipt]
    ] = concurrency
    __slots__ = ()

    def __init__(self, slots: SupportsIndex, ttl: Duration = 60) -> None:
        slots, ttl_us = count_of("slots", slots), period_of(ttl)
        if slots > self.MAX_SLOTS:
            raise LimitOutOfBounds(f"{slots} slots are above {self.MAX_SLOTS}, the most that are kept one by one")
        text = f"concurrency {slots}" + (f"; ttl={period_text(ttl_us, words=False)}" if ttl_us != 60_000_000 else "")
        self._freeze(rate=slots, period_us=ttl_us, capacity=slots, is_plain=False, _text=text)

    @property
    def label(self) -> str:
        return "concurrency"

    @property
    def span(self) -> str:
        return ""  # who holds a slot holds it, whatever the others' time to live

    @property
    def ttl_us(self) -> int:
        """How long a slot stays held without a renewal, in microseconds."""
        return self.period_us

    def arguments(self, cost: int, now_us: int, holder: str) -> concurrency.Arguments:
        return cost, self.rate, self.period_us, holder

    def receipt(self, facts: Facts, cost: int) -> None:
        return None

    def remaining(self, facts: Facts, now_us: int) -> int:
        return max(0, self.rate - facts[0])

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        """Until enough slots expire, if none is renewed: released slots are free earlier, renewed ones later."""
        return max(0, facts[1] - now_us)

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        return max(0, facts[2] - now_us)

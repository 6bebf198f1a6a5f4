"""The limit of denials: who is denied too often is blocked for a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, SupportsIndex

from headgate.algorithms import Algorithm, Facts, penalty
from headgate.errors import LimitOutOfBounds
from headgate.limits.limit import Duration, Limit, count_of, period_of, period_text


class Penalty(Limit):
    """After so many denials within a period, the key is blocked for a time.

    `Penalty(10, per=60, block=3600)` blocks a key for an hour from its tenth denial within any 60 seconds on. It takes
    no tokens: it watches the limits that stand before it, back to the penalty before, and counts the requests that
    one of them denies. While it blocks, it denies, whatever they say, and nothing is counted; then the count starts
    afresh. The denial that begins a block names the penalty already.

    It goes with limits to watch: `Limiter("100/minute", penalty=Penalty(10, per=60, block=3600))`, or behind them among
    several: `Limiter(["100/minute", Penalty(10, per=60, block=3600)])`.

    :param denials: how many denials within the period begin a block, an integer from 1 to 1,000.
    :param per: the period, in seconds or as a `timedelta`.
    :param block: for how long the key is blocked, in seconds or as a `timedelta`.
    :raises LimitOutOfBounds: if a number is not usable.
    """

    MAX_DENIALS: ClassVar[int] = 1_000
    code = "pn"
    algorithm: ClassVar[Algorithm[penalty.State, penalty.Arguments, penalty.Judged, penalty.Receipt]] = penalty
    block_us: int
    """For how long a key is blocked, in microseconds."""
    __slots__ = ("block_us",)

    def __init__(self, denials: SupportsIndex, per: Duration, block: Duration) -> None:
        denials, period_us, block_us = count_of("denials", denials), period_of(per), period_of(block)
        if denials > self.MAX_DENIALS:
            raise LimitOutOfBounds(
                f"a penalty remembers each denial by itself; {denials} is above {self.MAX_DENIALS}: count fewer, in a "
                "shorter period"
            )
        counted = f"{denials} denial{'' if denials == 1 else 's'}/{period_text(period_us)}"
        text = f"penalty {counted} -> {period_text(block_us, words=False)}"
        self._freeze(rate=denials, period_us=period_us, capacity=denials, block_us=block_us, is_plain=True, _text=text)

    def __reduce__(self) -> tuple[Any, ...]:
        spans = timedelta(microseconds=self.period_us), timedelta(microseconds=self.block_us)
        return type(self), (self.denials, *spans)

    @property
    def denials(self) -> int:
        """How many denials within the period begin a block."""
        return self.rate

    @property
    def label(self) -> str:
        return "penalty"

    @property
    def span(self) -> str:
        return ""  # instants mean the same under any numbers

    def arguments(self, cost: int, now_us: int, holder: str) -> penalty.Arguments:
        return cost, self.rate, self.period_us, self.block_us

    def receipt(self, facts: Facts, cost: int) -> None:
        return None

    def remaining(self, facts: Facts, now_us: int) -> int:
        """How many denials begin a block; 0 while there is one."""
        return max(1, self.rate - facts[1]) if facts[0] == 0 else 0

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        """Until the block is over."""
        return max(0, facts[0] - now_us)

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        """Until the block is over or, without one, until no denial counts any more."""
        if facts[0] > 0:
            return max(0, facts[0] - now_us)
        return max(0, facts[2] + self.period_us - now_us) if facts[1] > 0 else 0

"""The limit of a window that slides, over one entry for each hit."""

from __future__ import annotations

from typing import ClassVar, SupportsIndex

from headgate.algorithms import Algorithm, Facts, sliding_log
from headgate.errors import LimitOutOfBounds
from headgate.limits.limit import Duration, Limit, count_of, period_of, period_text


class SlidingLog(Limit):
    """At most `rate` tokens in every interval of the period, exactly: one entry is kept for each hit.

    For small limits that must be exact, such as 5 logins per 5 minutes. Above 10,000 the memory and the time it
    takes would hurt the store, so it is refused: use a `SlidingWindow` there.

    :param rate: tokens per period, an integer from 1 to 10,000.
    :param per: the period, in seconds or as a `timedelta`.
    :raises LimitOutOfBounds: if a number is not usable.
    """

    MAX_RATE: ClassVar[int] = 10_000
    code = "sl"
    algorithm: ClassVar[
        Algorithm[sliding_log.State, sliding_log.Arguments, sliding_log.Judged, sliding_log.Receipt]
    ] = sliding_log
    __slots__ = ()

    def __init__(self, rate: SupportsIndex, per: Duration = 1) -> None:
        rate, period_us = count_of("rate", rate), period_of(per)
        if rate > self.MAX_RATE:
            raise LimitOutOfBounds(
                f"a sliding log keeps one entry for each hit; {rate} is above {self.MAX_RATE}: use "
                f"'sliding-window {rate}/{period_text(period_us)}', which keeps two numbers"
            )
        text = f"sliding-log {rate}/{period_text(period_us)}"
        self._freeze(rate=rate, period_us=period_us, capacity=rate, is_plain=True, _text=text)

    def arguments(self, cost: int, now_us: int, holder: str) -> sliding_log.Arguments:
        return cost, self.rate, self.period_us

    def receipt(self, facts: Facts, cost: int) -> sliding_log.Receipt:
        return facts[1], cost

    def remaining(self, facts: Facts, now_us: int) -> int:
        return max(0, self.rate - facts[0])

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        return max(0, facts[2] - now_us)

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        return max(0, facts[1] + self.period_us - now_us) if facts[1] > 0 else 0

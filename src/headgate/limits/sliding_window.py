"""The limit of a window that slides, over two counters."""

from __future__ import annotations

from typing import ClassVar, SupportsIndex

from headgate.algorithms import Algorithm, Facts, sliding_window
from headgate.errors import LimitOutOfBounds
from headgate.limits.limit import Duration, Limit, count_of, period_of, period_text


class SlidingWindow(Limit):
    """At most `rate` tokens per period, over a window that slides: two counters, whatever the rate.

    The previous period weighs by the share that is still in view, as if it had been spent evenly, rounded against
    the caller. Smooth where `FixedWindow` has edges, and as small; `SlidingLog` is the exact one.

    :param rate: tokens per period, an integer of at least 1.
    :param per: the period, in seconds or as a `timedelta`.
    :raises LimitOutOfBounds: if a number is not usable.
    """

    code = "sw"
    algorithm: ClassVar[
        Algorithm[sliding_window.State, sliding_window.Arguments, sliding_window.Judged, sliding_window.Receipt]
    ] = sliding_window
    __slots__ = ("_step", "_steps")
    _step: int
    _steps: int

    def __init__(self, rate: SupportsIndex, per: Duration = 1) -> None:
        rate, period_us = count_of("rate", rate), period_of(per)
        step = rate * period_us // 2**52 + 1  # so that rate * steps < 2**53
        steps = period_us // step
        if steps < 1_000 and step > 1:
            raise LimitOutOfBounds(
                f"a sliding window of {rate} per {period_text(period_us)} cannot be kept exactly: use a token bucket"
            )
        text = f"sliding-window {rate}/{period_text(period_us)}"
        self._freeze(rate=rate, period_us=period_us, capacity=rate, _step=step, _steps=steps)
        self._freeze(is_plain=True, _text=text)

    def arguments(self, cost: int, now_us: int, holder: str) -> sliding_window.Arguments:
        return cost, self.rate, self.period_us, self._step, self._steps

    def receipt(self, facts: Facts, cost: int) -> sliding_window.Receipt:
        return facts[0]

    def remaining(self, facts: Facts, now_us: int) -> int:
        start, current, previous = facts
        in_view = sliding_window.in_view(previous, start, now_us, self.arguments(0, 0, ""))
        return max(0, self.rate - current - in_view)

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        start, current, previous = facts
        room = self.rate - cost - current
        if room < 0:  # not in this window: in the next one, the current count is the previous
            start, previous, room = start + self.period_us, current, self.rate - cost
        return max(0, self._fits_at(previous, start, room) - now_us)

    def _fits_at(self, previous: int, start: int, room: int) -> int:
        """The first instant at which no more than `room` of the previous window is in view."""
        previous = min(previous, 2**52 // self._steps)
        if previous <= room:
            return start
        left = room * self._steps // previous
        return start + self.period_us - left * self._step

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        start, current, previous = facts
        if current > 0:
            return start + 2 * self.period_us - now_us
        return max(0, start + self.period_us - now_us) if previous > 0 else 0

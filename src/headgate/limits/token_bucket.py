"""The limit of tokens that are earned continuously, and kept up to a burst."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from math import gcd
from typing import Any, ClassVar, SupportsIndex

from headgate.algorithms import MAX_SPAN_US, Algorithm, Facts, token_bucket
from headgate.errors import LimitOutOfBounds
from headgate.limits.limit import Duration, Limit, count_of, period_of, period_text


class TokenBucket(Limit):
    """`rate` tokens are earned per period, continuously, and up to `burst` of them are kept.

    `TokenBucket(100, per=60)` admits 100 at once and one more each 0.6 s; with `burst=10` it admits 10 at once. In
    every interval of length t, at most `burst + rate / per * t` tokens are admitted. The default choice.

    :param rate: tokens per period, an integer of at least 1.
    :param per: the period, in seconds or as a `timedelta`.
    :param burst: the capacity in tokens; `rate` by default.
    :raises LimitOutOfBounds: if a number is not usable.
    """

    code = "tb"
    algorithm: ClassVar[
        Algorithm[token_bucket.State, token_bucket.Arguments, token_bucket.Judged, token_bucket.Receipt]
    ] = token_bucket
    burst: int
    gives_back_only_as_last: bool
    """Do tokens come back only if nobody came after? So it is where some are drawn ahead of need: what is given back
    from the middle would move what lies behind it in the bucket, and some of that may be somebody's lease."""
    __slots__ = ("_parts", "_token", "_tolerance", "burst", "gives_back_only_as_last")
    _token: int
    _parts: int
    _tolerance: int

    def __init__(self, rate: SupportsIndex, per: Duration = 1, burst: SupportsIndex | None = None) -> None:
        rate, period_us = count_of("rate", rate), period_of(per)
        capacity = rate if burst is None else count_of("burst", burst)
        shared = gcd(rate, period_us)  # a token is period / rate microseconds; in lowest terms, numbers stay small
        token, parts = period_us // shared, rate // shared
        if capacity * token > MAX_SPAN_US * parts:
            raise LimitOutOfBounds(
                f"a bucket of {capacity} tokens at {rate}/{period_text(period_us)} takes more than 35 years to fill: "
                "lower the burst, or raise the rate"
            )
        text = f"{rate}/{period_text(period_us)}" + (f"; burst={capacity}" if capacity != rate else "")
        self._freeze(rate=rate, period_us=period_us, capacity=capacity, burst=capacity, is_plain=True, _text=text)
        self._freeze(_token=token, _parts=parts, _tolerance=capacity * token, gives_back_only_as_last=False)

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = self.rate, timedelta(microseconds=self.period_us), self.burst
        if self.gives_back_only_as_last:
            return TokenBucket.leased, (TokenBucket(*numbers),)
        return type(self), numbers

    def leased(self) -> TokenBucket:
        leased = TokenBucket(self.rate, timedelta(microseconds=self.period_us), self.burst)
        leased._freeze(gives_back_only_as_last=True)
        return leased

    def arguments(self, cost: int, now_us: int, holder: str) -> token_bucket.Arguments:
        # Only an actual cost, which `settle` charges, can be above the capacity: it saturates at 35 years of debt.
        increment = cost * self._token if cost <= self.capacity else min(cost * self._token, MAX_SPAN_US * self._parts)
        return increment, self._tolerance, self._parts

    @property
    def span(self) -> str:
        return str(Fraction(self._tolerance, self._parts))

    def receipt(self, facts: Facts, cost: int) -> token_bucket.Receipt:
        return facts[2], facts[3], self.gives_back_only_as_last

    def left(self, tat: int, now_us: int) -> tuple[int, int]:
        """The tokens that are left at a bucket with this theoretical arrival time, as `remaining` says, and the time
        until it is full, as `reset_after_us` does.
        """
        debt = tat - now_us * self._parts
        left = (self._tolerance - debt) // self._token
        return left if left > 0 else 0, -(-debt // self._parts)

    def remaining(self, facts: Facts, now_us: int) -> int:
        return max(0, (self._tolerance - facts[0]) // self._token)

    def wait_us(self, facts: Facts) -> int:
        return facts[1]

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        return facts[1]

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        return -(-facts[0] // self._parts)

    def age_denial(self, facts: Facts, elapsed_us: int, denied_cost: int, cost: int) -> Facts:
        debt, wait_us, place, credited = facts
        debt = max(0, debt - elapsed_us * self._parts)
        wait_us = max(0, wait_us - elapsed_us)
        if cost > denied_cost:
            wait_us = max(wait_us, -(-(debt + cost * self._token - self._tolerance) // self._parts))
        return debt, wait_us, place, credited

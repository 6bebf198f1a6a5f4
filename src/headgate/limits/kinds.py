"""The limits: rules with numbers, as frozen values.

A limit knows its numbers, turns a cost into the arguments of its algorithm, and says what the facts of a decision
mean (`remaining`, `retry_after_us`, `reset_after_us`). It must not know keys, stores or clocks. The grammar that
limits are read from is in `grammar.py`; here they only print themselves in it.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import gcd
from typing import Any, ClassVar, Final, SupportsIndex
from zoneinfo import ZoneInfo

from headgate.algorithms import (
    MAX_SPAN_US,
    MAX_TOKENS,
    Algorithm,
    AnyAlgorithm,
    Facts,
    concurrency,
    fixed_window,
    sliding_log,
    sliding_window,
    token_bucket,
)
from headgate.errors import LimitOutOfBounds
from headgate.limits import calendars

Duration = int | float | Decimal | timedelta
"""Seconds, or a `timedelta`. It has to come to a whole number of microseconds."""

UNITS_US: Final = {
    "week": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_SINGLE: Final = {"week": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}


class Limit(ABC):
    """What all limits have in common. Limits are immutable, hashable, and equal when they print the same.

    `rate` is the number of tokens per period (for `Concurrency`: of slots), `period_us` the period in microseconds,
    `capacity` the most that can be taken at once.
    """

    code: ClassVar[str]
    """The algorithm's part of a storage key."""
    algorithm: ClassVar[AnyAlgorithm]
    rate: int
    period_us: int
    capacity: int
    is_plain: bool
    """Do the arguments depend on the cost alone, not on the time or the holder?"""
    _text: str

    __slots__ = ("_text", "capacity", "is_plain", "period_us", "rate")

    def _freeze(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a new limit instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"parse_limit({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limit) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        from headgate.limits.grammar import parse_limit  # the grammar builds on this module

        return parse_limit, (self._text,)

    @property
    def label(self) -> str:
        """A short name that stays when the numbers change: `per-minute`, `per-30s`, `concurrency`."""
        return f"per-{_period_text(self.period_us)}"

    @property
    def span(self) -> str:
        """The time after which all that was spent is over, in microseconds, as a text. What was spent under one limit
        means something to another of its algorithm only where they span the same.
        """
        return str(self.period_us)

    @abstractmethod
    def arguments(self, cost: int, now_us: int, holder: str) -> tuple[Any, ...]:
        """What the algorithm needs to judge `cost` tokens. `now_us` may be a guess; it only chooses calendar
        windows.
        """

    @abstractmethod
    def receipt(self, facts: Facts, cost: int) -> Any:
        """What the algorithm needs to know of an earlier hit to give its tokens back."""

    @abstractmethod
    def remaining(self, facts: Facts, now_us: int) -> int:
        """How many tokens could still be taken right now."""

    @abstractmethod
    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        """Microseconds until the hit would be admitted, if nobody else spends; 0 if it fits now."""

    def wait_us(self, facts: Facts) -> int:
        """Microseconds until the turn of a hit that was admitted into the future. Only a token bucket does that."""
        return 0

    @abstractmethod
    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        """Microseconds until the whole capacity is there again, if nobody spends."""

    def age_denial(self, facts: Facts, elapsed_us: int, denied_cost: int, cost: int) -> Facts:
        """What the facts of a denial for `denied_cost` come to `elapsed_us` later, for a `cost` that is no less.
        `elapsed_us` is less than what there was to wait.
        """
        return facts


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
    __slots__ = ("_parts", "_token", "_tolerance", "burst")
    _token: int
    _parts: int
    _tolerance: int

    def __init__(self, rate: SupportsIndex, per: Duration = 1, burst: SupportsIndex | None = None) -> None:
        rate, period_us = _count("rate", rate), _period(per)
        capacity = rate if burst is None else _count("burst", burst)
        shared = gcd(rate, period_us)  # a token is period / rate microseconds; in lowest terms, numbers stay small
        token, parts = period_us // shared, rate // shared
        if capacity * token > MAX_SPAN_US * parts:
            raise LimitOutOfBounds(
                f"a bucket of {capacity} tokens at {rate}/{_period_text(period_us)} takes more than 35 years to fill: "
                "lower the burst, or raise the rate"
            )
        text = f"{rate}/{_period_text(period_us)}" + (f"; burst={capacity}" if capacity != rate else "")
        self._freeze(rate=rate, period_us=period_us, capacity=capacity, burst=capacity, is_plain=True, _text=text)
        self._freeze(_token=token, _parts=parts, _tolerance=capacity * token)

    def arguments(self, cost: int, now_us: int, holder: str) -> token_bucket.Arguments:
        # Only an actual cost, which `settle` charges, can be above the capacity: it saturates at 35 years of debt.
        increment = cost * self._token if cost <= self.capacity else min(cost * self._token, MAX_SPAN_US * self._parts)
        return increment, self._tolerance, self._parts

    @property
    def span(self) -> str:
        return str(Fraction(self._tolerance, self._parts))

    def receipt(self, facts: Facts, cost: int) -> token_bucket.Receipt:
        return facts[2], facts[3], False

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


class FixedWindow(Limit):
    """At most `rate` tokens in each window. Windows lie on the epoch's grid, or on the calendar's.

    `FixedWindow(1000, per=3600)` counts by the hour; `FixedWindow(1000, per="day", tz="Europe/Berlin")` from one
    Berlin midnight to the next, and `per="month"` from the first to the first. Around a boundary, up to twice the
    limit can pass in no time.

    :param rate: tokens per window, an integer of at least 1.
    :param per: seconds, a `timedelta`, or one of `hour`, `day`, `week` (from Monday), `month`, `year`.
    :param tz: the time zone of a calendar window, UTC by default.
    :raises LimitOutOfBounds: if a number, the unit or the zone is not usable.
    """

    code = "fw"
    algorithm: ClassVar[
        Algorithm[fixed_window.State, fixed_window.Arguments, fixed_window.Judged, fixed_window.Receipt]
    ] = fixed_window
    unit: str | None
    tz: str | None
    __slots__ = ("_zone", "tz", "unit")
    _zone: ZoneInfo | None

    def __init__(self, rate: SupportsIndex, per: Duration | str = 1, tz: str | None = None) -> None:
        rate = _count("rate", rate)
        unit: str | None = None
        zone: ZoneInfo | None = None
        if isinstance(per, str):
            if per not in calendars.UNITS:
                raise LimitOutOfBounds(f"a calendar window is one of {', '.join(calendars.UNITS)}, not {per!r}")
            if per in ("hour", "day") and (tz is None or tz == "UTC"):  # the epoch's own grid
                period_us, tz = UNITS_US[per[0]], None
            else:
                period_us = _CALENDAR_US[per]
                unit, tz = per, "UTC" if tz is None else tz
                zone = _zone(tz)
        elif tz is not None:
            raise LimitOutOfBounds('tz goes with a window of the calendar, such as per="day"')
        else:
            period_us = _period(per)
        text = f"fixed-window {rate}/{unit or _period_text(period_us, weeks=False)}"
        text += f"; tz={tz}" if tz not in (None, "UTC") else ""
        self._freeze(rate=rate, period_us=period_us, capacity=rate, unit=unit, tz=tz, _zone=zone)
        self._freeze(is_plain=unit is None, _text=text)

    @property
    def label(self) -> str:
        return f"per-{self.unit or _period_text(self.period_us, weeks=False)}"

    @property
    def span(self) -> str:
        return str(self.period_us) if self.unit is None else f"{self.unit}-{self.tz}"

    def window(self, at_us: int) -> tuple[int, int]:
        """The window that contains an instant: its first microsecond, and the next window's."""
        if self.unit is None or self._zone is None:
            start = at_us - at_us % self.period_us
            return start, start + self.period_us
        return calendars.window(self.unit, self._zone, at_us)

    def arguments(self, cost: int, now_us: int, holder: str) -> fixed_window.Arguments:
        if self.unit is None or self._zone is None:
            return cost, self.rate, self.period_us
        return cost, self.rate, 0, *calendars.boundaries(self.unit, self._zone, now_us)

    def receipt(self, facts: Facts, cost: int) -> fixed_window.Receipt:
        return facts[0]

    def remaining(self, facts: Facts, now_us: int) -> int:
        return max(0, self.rate - facts[1])

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        return 0 if facts[1] + cost <= self.rate else self._end(facts[0]) - now_us

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        return self._end(facts[0]) - now_us if facts[1] > 0 else 0

    def _end(self, start: int) -> int:
        """When a window in force is over: one that begins off the grid is as long as the one that it begins in."""
        began, ended = self.window(start)
        return ended if start == began else start + (ended - began)


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
        rate, period_us = _count("rate", rate), _period(per)
        step = rate * period_us // 2**52 + 1  # so that rate * steps < 2**53
        steps = period_us // step
        if steps < 1_000 and step > 1:
            raise LimitOutOfBounds(
                f"a sliding window of {rate} per {_period_text(period_us)} cannot be kept exactly: use a token bucket"
            )
        text = f"sliding-window {rate}/{_period_text(period_us)}"
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
        rate, period_us = _count("rate", rate), _period(per)
        if rate > self.MAX_RATE:
            raise LimitOutOfBounds(
                f"a sliding log keeps one entry for each hit; {rate} is above {self.MAX_RATE}: use "
                f"'sliding-window {rate}/{_period_text(period_us)}', which keeps two numbers"
            )
        text = f"sliding-log {rate}/{_period_text(period_us)}"
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
        slots, ttl_us = _count("slots", slots), _period(ttl)
        if slots > self.MAX_SLOTS:
            raise LimitOutOfBounds(f"{slots} slots are above {self.MAX_SLOTS}, the most that are kept one by one")
        text = f"concurrency {slots}" + (f"; ttl={_period_text(ttl_us, single=False)}" if ttl_us != 60_000_000 else "")
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


_CALENDAR_US: Final = {
    "hour": UNITS_US["h"],
    "day": UNITS_US["d"],
    "week": UNITS_US["week"],
    "month": 30 * UNITS_US["d"],
    "year": 365 * UNITS_US["d"],
}
"""Nominal lengths, for headers that want a window in seconds. No decision uses them."""


def integer_of(value: object) -> int | None:
    """What counts as an integer (an `IntEnum`, one of numpy) as a plain one; None if it is none, or a bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # which is what we are to find out
    except Exception:  # a class of somebody's may refuse as it likes
        return None


def _count(what: str, value: SupportsIndex) -> int:
    count = integer_of(value)
    if count is None:
        raise LimitOutOfBounds(
            f"{what} must be an integer, not {value!r}: for one and a half a second, say 3 per 2 seconds"
        )
    if count < 1:
        raise LimitOutOfBounds(f"{what} must be at least 1, not {count}: to let nothing through, deny in your code")
    if count > MAX_TOKENS:
        raise LimitOutOfBounds(f"{what} must be below 2**51, where all stores count exactly; {count} is not")
    return count


def _period(per: Duration) -> int:
    """A period in whole microseconds."""
    if isinstance(per, timedelta):
        period_us = per // timedelta(microseconds=1)
    else:
        try:
            exact = Decimal(str(per)) * 1_000_000
            period_us = int(exact)
        except (InvalidOperation, ValueError, OverflowError):
            raise LimitOutOfBounds(f"a period is a number of seconds or a timedelta, not {per!r}") from None
        if isinstance(per, bool) or exact != period_us:
            raise LimitOutOfBounds(f"a period must be a whole number of microseconds, which {per!r} seconds are not")
    if period_us < 1:
        raise LimitOutOfBounds(f"a period must be longer than nothing, not {per!r}")
    if period_us > MAX_SPAN_US:
        raise LimitOutOfBounds(f"a period must be shorter than 35 years, which {per} s is not")
    return period_us


def _zone(name: str) -> ZoneInfo:
    try:
        if not name:
            raise ValueError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        raise LimitOutOfBounds(
            f"unknown time zone {name!r}: use a name such as Europe/Berlin "
            "(and install tzdata where the system has no zones)"
        ) from None


def _period_text(period_us: int, *, weeks: bool = True, single: bool = True) -> str:
    for unit, length in UNITS_US.items():
        if period_us % length == 0 and (unit != "week" or (weeks and single and period_us == length)):
            if single and period_us == length and unit in _SINGLE:
                return _SINGLE[unit]
            return f"{period_us // length}{unit}"
    raise AssertionError(period_us)  # the last unit divides every integer

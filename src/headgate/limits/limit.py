"""The common part of all limits: numbers that are checked, a text, and what an algorithm is to know of them.

A limit knows its numbers, turns a cost into the arguments of its algorithm, and says what the facts of a decision
mean (`remaining`, `retry_after_us`, `reset_after_us`). It must not know keys, stores or clocks. The grammar that
limits are read from is in `grammar.py`; here they only print themselves in it.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Final, SupportsIndex

from headgate.algorithms import MAX_SPAN_US, MAX_TOKENS, AnyAlgorithm, Facts
from headgate.errors import LimitOutOfBounds

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
_WORDS: Final = {"week": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}


class Limit(ABC):
    """A rule with numbers. Limits are immutable, hashable, and equal when they print the same.

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
        return type(self), (self.rate, timedelta(microseconds=self.period_us))

    @property
    def label(self) -> str:
        """A short name that stays when the numbers change: `per-minute`, `per-30s`, `concurrency`."""
        return f"per-{period_text(self.period_us)}"

    @property
    def span(self) -> str:
        """The time after which all that was spent is over, in microseconds, as a text. What was spent under one limit
        means something to another of its algorithm only where they span the same.
        """
        return str(self.period_us)

    @abstractmethod
    def arguments(self, cost: int, now_us: int, holder: str) -> tuple[Any, ...]:
        """The arguments of the algorithm that judges `cost` tokens. `now_us` may be a guess; it only chooses calendar
        windows.
        """

    @abstractmethod
    def receipt(self, facts: Facts, cost: int) -> Any:
        """By what the algorithm knows an earlier hit, to give its tokens back."""

    def leased(self) -> Limit:
        """The same limit, as it is where some of its tokens are drawn ahead of need."""
        return self

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
        """The facts of a denial for `denied_cost` as they are `elapsed_us` later, for a `cost` that is no less.
        `elapsed_us` is less than what there was to wait.
        """
        return facts


def integer_of(value: object) -> int | None:
    """Whatever counts as an integer (an `IntEnum`, one of numpy) as a plain one; None if it is none, or a bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # which is what we are to find out
    except Exception:  # a class of somebody's may refuse as it likes
        return None


def count_of(what: str, value: SupportsIndex) -> int:
    """A number of tokens or slots, checked.

    :raises LimitOutOfBounds: if it is not usable.
    """
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


def period_of(per: Duration) -> int:
    """A period in whole microseconds, checked.

    :raises LimitOutOfBounds: if it is not usable.
    """
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


def period_text(period_us: int, *, weeks: bool = True, words: bool = True) -> str:
    """A period as limits print it, in the largest unit of which it is a whole number; one unit as its word."""
    for unit, length in UNITS_US.items():
        if period_us % length == 0 and (unit != "week" or (weeks and words and period_us == length)):
            if words and period_us == length and unit in _WORDS:
                return _WORDS[unit]
            return f"{period_us // length}{unit}"
    raise AssertionError(period_us)  # the last unit divides every integer

"""Limits in words: `100/minute; burst=20`, `sliding-log 5/300s`, `fixed-window 1000/day; tz=Europe/Berlin`,
`concurrency 50`, `penalty 10 denials/minute -> 1h`.

::

    limit     = [ algorithm ] count [ ("/" | "per") period ] *( ";" option "=" value )
              | [ "penalty" ] count [ "denials" ] ("/" | "per") period ( "->" | "→" ) period
    period    = [ number ] unit
    algorithm = "token-bucket" | "fixed-window" | "sliding-window" | "sliding-log" | "concurrency"
    unit      = us | ms | s | m | h | d | w, or a word: second, minute, hour, day, week
                (and month, year for fixed windows)
    option    = "burst" (token-bucket) | "tz" (fixed-window) | "ttl" (concurrency)

The word `denials` makes it a penalty without the other one; where nothing else can be meant, both may be left out. Case
and spaces do not matter, and `_` may stand in long numbers. A text that is not understood raises `LimitSyntaxError`
with a caret under the place; it is never dropped, and never means "unlimited". This module must not know what the
limits do.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Never

from headgate.errors import LimitOutOfBounds, LimitSyntaxError
from headgate.limits import (
    UNITS_US,
    Concurrency,
    FixedWindow,
    Limit,
    Penalty,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)

MAX_TEXT: Final = 200
"""A longer text is not a limit."""

_WORDS: Final = {
    "us": ("us", "usec", "microsecond", "microseconds"),
    "ms": ("ms", "msec", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "week": ("w", "week", "weeks"),
}
_UNITS: Final = {word: unit for unit, words in _WORDS.items() for word in words}
_CALENDAR: Final = {"hour": "hour", "day": "day", "week": "week", "month": "month", "year": "year"}
_OPTIONS: Final = {"token-bucket": "burst", "fixed-window": "tz", "concurrency": "ttl"}
_ALGORITHMS: Final = ("token-bucket", "fixed-window", "sliding-window", "sliding-log", "concurrency", "penalty")

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[^\W\d]\w*(?:-\w+)*")
_NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?")
_VALUE = re.compile(r"[^;\s]+")
_DENIALS = re.compile(r"denials?\b", re.IGNORECASE)
_ARROW = re.compile(r"->|\u2192")


def parse_limit(text: str | Limit) -> Limit:
    """Read a limit from its text; a `Limit` is handed back as it is.

    :raises LimitSyntaxError: if the text is not understood, with the place.
    :raises LimitOutOfBounds: if it is understood, but its numbers are not usable.

    >>> parse_limit("100 per minute; burst=20")
    parse_limit('100/minute; burst=20')
    """
    if isinstance(text, Limit):
        return text
    if not isinstance(text, str):
        raise LimitSyntaxError(repr(text), 0, f"a limit is a text or a Limit, not {type(text).__name__}")
    return _parse(text)


def parse_penalty(text: str | Limit) -> Penalty:
    """Read a penalty where nothing else can be meant.

    :raises LimitSyntaxError: if it is none.
    :raises LimitOutOfBounds: if it is understood, but its numbers are not usable.

    >>> parse_penalty("10 denials per minute -> 1 hour")
    parse_limit('penalty 10 denials/minute -> 1h')
    """
    found = text if isinstance(text, Limit) else None
    if isinstance(text, str):
        found = _parse(text, "penalty")
    if not isinstance(found, Penalty):
        kind = type(text).__name__ if found is None else repr(str(found))
        raise LimitSyntaxError(
            str(found or repr(text)), 0, f"a penalty is one such as '10 denials/minute -> 1h', not {kind}"
        )
    return found


@functools.lru_cache(maxsize=1024)
def _parse(text: str, by_default: str = "token-bucket") -> Limit:
    if len(text) > MAX_TEXT:
        raise LimitSyntaxError(text[:40] + "...", 0, f"a limit has at most {MAX_TEXT} characters")
    return _Reader(text).limit(by_default)


class _Reader:
    """Reads one text from left to right; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._skip(_SPACE)

    def limit(self, by_default: str) -> Limit:
        start = self.at
        algorithm = (self._match(_WORD) or by_default).lower().replace("_", "-")
        if algorithm not in _ALGORITHMS:
            self._fail(f"unknown algorithm {algorithm!r}; there are {', '.join(_ALGORITHMS)}", start)
        count_at = self.at
        count = self._count()
        denials_at = self.at
        if self._match(_DENIALS) and algorithm != "penalty":
            if start != count_at:
                self._fail(f"denials are counted by a penalty, not by a {algorithm}", denials_at)
            algorithm = "penalty"
        if algorithm == "penalty":
            return self._penalty(count, count_at)
        if algorithm == "concurrency":
            options = self._options(algorithm)
            return self._make(
                lambda: Concurrency(count, ttl=Decimal(options.get("ttl", 60_000_000)) / 1_000_000), count_at
            )
        self._separator()
        period_us, calendar = self._period(algorithm)
        options = self._options(algorithm)
        seconds = Decimal(period_us) / 1_000_000
        if algorithm == "fixed-window":
            zone = options.get("tz")
            per = calendar if calendar and (zone or calendar not in ("hour", "day")) else seconds
            return self._make(lambda: FixedWindow(count, per, None if zone is None else str(zone)), count_at)
        if algorithm == "sliding-window":
            return self._make(lambda: SlidingWindow(count, seconds), count_at)
        if algorithm == "sliding-log":
            return self._make(lambda: SlidingLog(count, seconds), count_at)
        burst = options.get("burst")
        return self._make(lambda: TokenBucket(count, seconds, None if burst is None else int(burst)), count_at)

    def _penalty(self, count: int, count_at: int) -> Limit:
        self._separator()
        period_us, _ = self._period("penalty")
        if not self._match(_ARROW):
            self._fail("expected '->' and for how long the key is blocked, such as '-> 1h'")
        block_us, _ = self._period("penalty")
        self._options("penalty")
        per, block = Decimal(period_us) / 1_000_000, Decimal(block_us) / 1_000_000
        return self._make(lambda: Penalty(count, per, block), count_at)

    def _make(self, build: Callable[[], Limit], at: int) -> Limit:
        try:
            return build()
        except LimitOutOfBounds as error:
            raise LimitOutOfBounds(f"{error}\n  {self.text}\n  {' ' * at}^") from None

    def _count(self) -> int:
        at = self.at
        number = self._match(_NUMBER)
        if number is None:
            self._fail("expected a whole number of at least 1, such as 100")
        if "." in number:
            self._fail("expected a whole number; for one and a half a second, write 3/2s", at)
        if (
            self.at < len(self.text)
            and self.text[self.at] not in "/; \t"
            and not self._per_ahead()
            and not _DENIALS.match(self.text, self.at)
        ):
            self._fail(f"expected '/', 'per' or ';' after {number}", self.at)
        return int(number)

    def _per_ahead(self) -> bool:
        return self.text[self.at : self.at + 3].lower() == "per"

    def _separator(self) -> None:
        if self.text[self.at : self.at + 1] == "/":
            self.at += 1
        elif self._per_ahead():
            self.at += 3
        else:
            self._fail("expected '/' or 'per', then a period such as minute or 30s")
        self._skip(_SPACE)

    def _period(self, algorithm: str) -> tuple[int, str | None]:
        """A period in microseconds, and the calendar's word where it is one without a number."""
        at = self.at
        number = self._match(_NUMBER)
        unit_at = self.at
        word = self._match(_WORD)
        if word is None:
            self._fail("expected a unit of time: us, ms, s, m, h, d, w, or a word such as minute")
        unit = word.lower()
        calendar = _CALENDAR.get(unit) if number is None else None
        if unit in ("month", "months", "year", "years"):
            if algorithm != "fixed-window" or calendar is None:
                self._fail(f"a {word} has no fixed length: write 30d or 365d, or 'fixed-window N/month'", unit_at)
            return UNITS_US["d"], calendar
        if unit not in _UNITS:
            self._fail(
                f"unknown unit of time {word!r}; there are us, ms, s, m, h, d, w, and words such as minute", unit_at
            )
        exact = Decimal((number or "1").replace("_", "")) * UNITS_US[_UNITS[unit]]
        if exact != int(exact):
            self._fail("a period must be a whole number of microseconds", at)
        if exact < 1:
            self._fail("a period must be longer than nothing", at)
        return int(exact), calendar

    def _options(self, algorithm: str) -> dict[str, int | str]:
        options: dict[str, int | str] = {}
        while self.at < len(self.text):
            if self.text[self.at] != ";":
                self._fail("expected ';' and an option, or the end")
            self.at += 1
            self._skip(_SPACE)
            at = self.at
            name = (self._match(_WORD) or "").lower()
            known = _OPTIONS.get(algorithm)
            if name != known:
                has = f"its one option is {known}=..." if known else "it has no options"
                self._fail(f"{algorithm} has no option {name!r}; {has}" if name else f"expected an option; {has}", at)
            if name in options:
                self._fail(f"{name} is given twice", at)
            if self.text[self.at : self.at + 1] != "=":
                self._fail(f"expected '=' after {name}")
            self.at += 1
            self._skip(_SPACE)
            options[name] = self._option_value(name)
        return options

    def _option_value(self, name: str) -> int | str:
        if name == "burst":
            return self._count()
        if name == "ttl":
            return self._period("concurrency")[0]
        return self._match(_VALUE) or self._fail("expected a time zone, such as Europe/Berlin")

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        self._skip(_SPACE)
        return found.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _fail(self, problem: str, at: int | None = None) -> Never:
        raise LimitSyntaxError(self.text, self.at if at is None else at, problem)

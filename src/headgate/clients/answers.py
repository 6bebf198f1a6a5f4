"""The rate limits in an answer over HTTP: for how long does it ask us to stay away?

Vendors write these fields in many ways, and some write nonsense: what is not understood says nothing. Pure: this module
must not know a client, a limiter or a store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from headgate.clock import system_clock

REFUSALS: Final = frozenset({403, 429, 503})
"""The statuses of answers whose `Retry-After` is about a limit. Some vendors say 403 where others say 429."""

_SECOND_US: Final = 1_000_000
_SECONDS: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,18}))?", re.ASCII)
_FIRST_EPOCH_US: Final = 10**8 * _SECOND_US
"""A number of seconds from here on (three years) is no time from now, but an instant."""
_FIRST_EPOCH_MS_US: Final = 10**11 * _SECOND_US
"""And from here on, it is an instant in milliseconds."""
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_PARAMETER: Final = re.compile(r"\b([a-z]+)\s*=\s*(\d{1,15})(?![\w.])", re.ASCII)


class Answer(NamedTuple):
    """A vendor's answer, as far as it is about limits."""

    status: int
    headers: Mapping[str, str]
    """Its fields; names are found in whatever case."""
    response: object
    """The client's own response."""


Heed = Callable[[Answer], float | None]
"""Says for how many seconds an answer asks us to stay away; None for not at all."""


def seconds_told(answer: Answer) -> float | None:
    """The time for which an answer asks us to stay away, in seconds; None if it does not, or does not say how long. It
    is how answers are heeded by default: see `pause_us`.
    """
    told_us = pause_us(answer, system_clock())
    return told_us / 1_000_000 if told_us else None


def pause_us(answer: Answer, now_us: int) -> int:
    """The time for which an answer asks us to stay away, in microseconds; 0 if it does not, or does not say how long.

    - Of a refusal, `Retry-After`: seconds or a date.
    - Or else `RateLimit`, the limits of which nothing is left: `"api";r=0;t=30`, or `limit=100, remaining=0, reset=30`.
    - Or else `RateLimit-Remaining` and `RateLimit-Reset`, and the same with `X-RateLimit-` or `X-Rate-Limit-`, where
      nothing remains, or where a refusal does not say what remains. `Reset` is seconds, an instant since the epoch in
      seconds or milliseconds, or a date. `X-RateLimit-Reset-After` is seconds.

    :param now_us: the time in microseconds since the epoch. Where the answer has a `Date`, that counts: the vendor's
        dates are by the vendor's clock.
    """
    headers: dict[str, str] = {}
    for called, value in answer.headers.items():  # aiohttp's have a field as often as it was sent
        name = called.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    is_refusal = answer.status in REFUSALS
    now_us = _date_us(headers.get("date", "")) or now_us
    if is_refusal:
        told_us = _until_us(headers.get("retry-after", ""), now_us)
        if told_us is not None:
            return told_us
    waits_us = list(_of_draft(headers.get("ratelimit", "")))
    if waits_us:
        return max(waits_us)
    for family in ("ratelimit", "x-ratelimit", "x-rate-limit"):
        remaining = headers.get(f"{family}-remaining")
        if not (_is_none_left(remaining) or (remaining is None and is_refusal)):
            continue
        told_us = _seconds_us(headers.get(f"{family}-reset-after", ""))
        if told_us is None:
            told_us = _until_us(headers.get(f"{family}-reset", ""), now_us)
        if told_us is not None:
            return told_us
    return 0


def _of_draft(field: str) -> Iterator[int]:
    """The times, in microseconds, after which the limits of `RateLimit` that are used up have something again."""
    members = _STRING.sub("", field).lower().split(",")
    if all(";" not in member for member in members):  # one limit, as draft 7 tells of it
        members = [";".join(members)]
    for member in members:
        told = {name: int(value) for name, value in _PARAMETER.findall(member)}
        until = told.get("t", told.get("reset"))
        if until is not None and told.get("r", told.get("remaining")) == 0:
            yield until * _SECOND_US


def _until_us(text: str, now_us: int) -> int | None:
    """The time from now that a text says: in seconds, as an instant, or as a date. None if it says none."""
    told_us = _seconds_us(text)
    if told_us is None:
        instant_us = _date_us(text)
    elif told_us < _FIRST_EPOCH_US:
        return told_us
    else:
        instant_us = told_us if told_us < _FIRST_EPOCH_MS_US else told_us // 1_000
    return None if instant_us is None else max(0, instant_us - now_us)


def _seconds_us(text: str) -> int | None:
    """A number of seconds in microseconds, rounded up: who comes then is not early."""
    found = _SECONDS.fullmatch(text)
    if found is None:
        return None
    whole, fraction = found[1], found[2] or ""
    parts: int = 10 ** len(fraction)
    return int(whole) * _SECOND_US - (-int(fraction or 0) * _SECOND_US // parts)


def _date_us(text: str) -> int | None:
    """A date of HTTP in microseconds since the epoch."""
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        since = date - datetime.fromtimestamp(0, UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return since.days * 86_400 * _SECOND_US + since.seconds * _SECOND_US


def _is_none_left(remaining: str | None) -> bool:
    """Does a field say that nothing is left?"""
    told_us = None if remaining is None else _seconds_us(remaining)
    return told_us is not None and told_us < _SECOND_US

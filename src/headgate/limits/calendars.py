"""Windows of the calendar: the hour, day, week, month or year around an instant, in a time zone, DST included.

Pure functions from instants to instants, in integer microseconds since the epoch. This module must not know what is
counted in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

UNITS = ("hour", "day", "week", "month", "year")
"""The units of calendar windows. Weeks begin on Monday (ISO 8601)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000


def window(unit: str, zone: ZoneInfo, at_us: int) -> tuple[int, int]:
    """The `unit` that contains the instant `at_us`: its first microsecond, and the next window's.

    A day on which the clocks change has 23 or 25 hours; a midnight that does not exist is the moment of the change.
    An hour is 3,600 s long, counted from the full hour of the local clock.
    """
    local = (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)
    if unit == "hour":
        into = local.minute * 60_000_000 + local.second * 1_000_000 + local.microsecond
        return at_us - into, at_us - into + _HOUR_US
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    first, following = _FLOORS[unit](midnight)
    start, end = _instant(first, zone), _instant(following, zone)
    if end <= at_us:  # clocks went back over this midnight: the day that has begun goes on
        start, end = end, _instant(_FLOORS[unit](following)[1], zone)
    return start, end


def boundaries(unit: str, zone: ZoneInfo, near_us: int) -> tuple[int, int, int, int]:
    """The edges of the window around `near_us`, of the one before and of the one after, in rising order."""
    start, end = window(unit, zone, near_us)
    return window(unit, zone, start - 1)[0], start, end, window(unit, zone, end)[1]


def _instant(midnight: datetime, zone: ZoneInfo) -> int:
    return (midnight.replace(tzinfo=zone).astimezone(UTC) - _EPOCH) // _MICROSECOND


def _day(day: datetime) -> tuple[datetime, datetime]:
    return day, day + timedelta(days=1)


def _week(day: datetime) -> tuple[datetime, datetime]:
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=7)


def _month(day: datetime) -> tuple[datetime, datetime]:
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _year(day: datetime) -> tuple[datetime, datetime]:
    first = day.replace(month=1, day=1)
    return first, first.replace(year=first.year + 1)


_FLOORS: dict[str, Callable[[datetime], tuple[datetime, datetime]]] = {
    "day": _day,
    "week": _week,
    "month": _month,
    "year": _year,
}

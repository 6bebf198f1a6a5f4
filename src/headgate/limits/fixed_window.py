"""The limit of windows that lie on a grid, or on the calendar."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final, SupportsIndex
from zoneinfo import ZoneInfo

from headgate.algorithms import Algorithm, Facts, fixed_window
from headgate.errors import LimitOutOfBounds
from headgate.limits import calendars
from headgate.limits.limit import UNITS_US, Duration, Limit, count_of, period_of, period_text

_CALENDAR_US: Final = {
    "hour": UNITS_US["h"],
    "day": UNITS_US["d"],
    "week": UNITS_US["week"],
    "month": 30 * UNITS_US["d"],
    "year": 365 * UNITS_US["d"],
}
"""Nominal lengths, for headers that want a window in seconds. No decision uses them."""


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
        rate = count_of("rate", rate)
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
            period_us = period_of(per)
        text = f"fixed-window {rate}/{unit or period_text(period_us, weeks=False)}"
        text += f"; tz={tz}" if tz not in (None, "UTC") else ""
        self._freeze(rate=rate, period_us=period_us, capacity=rate, unit=unit, tz=tz, _zone=zone)
        self._freeze(is_plain=unit is None, _text=text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rate, self.unit or timedelta(microseconds=self.period_us), self.tz)

    @property
    def label(self) -> str:
        return f"per-{self.unit or period_text(self.period_us, weeks=False)}"

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

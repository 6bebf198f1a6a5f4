"""Calendar windows: days of 23 and 25 hours, midnights that do not exist, days that were skipped; and no time between
two windows, nor any in both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.limits import FixedWindow, calendars
from tests.profiles import quickly

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
LAST_US = (datetime(2100, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

ZONES = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("posix/", "right/")))


def us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """An instant of a zone's clock, in microseconds since the epoch."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (local - EPOCH) // timedelta(microseconds=1)


def window(unit: str, zone: str, text: str, fold: int = 0) -> tuple[int, int]:
    return calendars.window(unit, ZoneInfo(zone), us(text, zone, fold))


# Days on which the clocks change


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-28", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-03-30", 24),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Asia/Kolkata", "2026-03-29", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),  # whose midnight does not exist
        ("America/Sao_Paulo", "2018-02-17", 25),  # at the end of which the clocks go back
        ("America/Havana", "2026-11-01", 25),  # whose midnight comes twice
        ("America/Havana", "2026-03-08", 23),
        ("Asia/Pyongyang", "2018-05-04", 23.5),  # whose last half hour does not exist
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_however_long_it_is(zone: str, day: str, hours: float) -> None:
    start, end = window("day", zone, f"{day}T12:00")
    assert end - start == hours * HOUR_US
    assert window("day", zone, f"{day}T12:00") == calendars.window("day", ZoneInfo(zone), start)
    assert window("day", zone, f"{day}T12:00") == calendars.window("day", ZoneInfo(zone), end - 1)


def test_a_midnight_that_does_not_exist_is_the_moment_at_which_the_clocks_change() -> None:
    start, _ = window("day", "America/Sao_Paulo", "2018-11-04T12:00")
    assert start == us("2018-11-04T01:00", "America/Sao_Paulo") == us("2018-11-04T03:00")


def test_a_midnight_that_comes_twice_begins_the_day_when_it_first_comes() -> None:
    start, _ = window("day", "America/Havana", "2026-11-01T12:00")
    assert start == us("2026-11-01T04:00")
    assert window("day", "America/Havana", "2026-11-01T00:30", fold=1)[0] == start


def test_a_day_that_was_skipped_has_no_window() -> None:
    before = window("day", "Pacific/Apia", "2011-12-29T12:00")
    after = window("day", "Pacific/Apia", "2011-12-31T12:00")
    assert before[1] == after[0] == us("2011-12-30T10:00")
    assert before[1] - before[0] == after[1] - after[0] == DAY_US


def test_clocks_that_go_back_over_midnight_do_not_end_the_day_that_has_begun() -> None:
    # In Newfoundland, a minute after midnight it became 23:01 of the day before.
    zone = "America/St_Johns"
    first = calendars.window("day", ZoneInfo(zone), us("2010-11-07T00:00:30", zone))
    again = calendars.window("day", ZoneInfo(zone), us("2010-11-06T23:30", zone, fold=1))
    later = calendars.window("day", ZoneInfo(zone), us("2010-11-07T12:00", zone))
    assert first == again == later
    assert later[1] - later[0] == 25 * HOUR_US


# Weeks, months, years, hours


def test_a_week_begins_on_monday() -> None:
    start, end = window("week", "Europe/Berlin", "2026-03-29T23:59:59.999999")
    assert (start, end) == (us("2026-03-23", "Europe/Berlin"), us("2026-03-30", "Europe/Berlin"))
    assert end - start == 7 * DAY_US - HOUR_US
    assert window("week", "Europe/Berlin", "2026-03-30")[0] == end


@pytest.mark.parametrize(
    ("month", "following"),
    [("2026-01", "2026-02"), ("2024-02", "2024-03"), ("2026-02", "2026-03"), ("2026-12", "2027-01")],
)
def test_a_month_lasts_from_the_first_to_the_first(month: str, following: str) -> None:
    edges = us(f"{month}-01", "Asia/Kolkata"), us(f"{following}-01", "Asia/Kolkata")
    assert window("month", "Asia/Kolkata", f"{month}-01") == edges
    assert calendars.window("month", ZoneInfo("Asia/Kolkata"), edges[1] - 1) == edges


def test_a_year_lasts_from_new_year_to_new_year() -> None:
    start, end = window("year", "America/New_York", "2028-07-01")
    assert (start, end) == (us("2028-01-01", "America/New_York"), us("2029-01-01", "America/New_York"))
    assert end - start == 366 * DAY_US


def test_an_hour_begins_with_the_full_hour_of_the_local_clock() -> None:
    start, end = window("hour", "Asia/Kolkata", "2026-03-29T10:20")
    assert (start, end) == (us("2026-03-29T10:00", "Asia/Kolkata"), us("2026-03-29T11:00", "Asia/Kolkata"))
    assert start % HOUR_US == HOUR_US // 2


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first = window("hour", "Europe/Berlin", "2026-10-25T02:30")
    second = window("hour", "Europe/Berlin", "2026-10-25T02:30", fold=1)
    assert first[1] == second[0]
    assert second[1] == us("2026-10-25T03:00", "Europe/Berlin")


# All of time


@settings(max_examples=quickly(300))
@given(
    unit=st.sampled_from(["day", "week", "month", "year"]),
    name=st.sampled_from(ZONES),
    at_us=st.integers(0, LAST_US),
)
@example(unit="day", name="America/St_Johns", at_us=us("2010-11-07T02:45"))
@example(unit="month", name="America/Goose_Bay", at_us=us("2009-11-01T03:30"))
@example(unit="day", name="Antarctica/Casey", at_us=us("2010-03-04T16:00"))
@example(unit="day", name="Pacific/Apia", at_us=us("2011-12-30T10:00"))
@example(unit="week", name="Pacific/Kwajalein", at_us=us("1993-08-21T12:00"))
@example(unit="year", name="Pacific/Kiritimati", at_us=us("1994-12-31T12:00"))
def test_each_instant_is_in_one_window_and_windows_follow_each_other(unit: str, name: str, at_us: int) -> None:
    zone = ZoneInfo(name)
    start, end = calendars.window(unit, zone, at_us)
    assert start <= at_us < end
    assert calendars.window(unit, zone, start) == calendars.window(unit, zone, end - 1) == (start, end)
    assert calendars.window(unit, zone, end)[0] == end
    assert calendars.window(unit, zone, start - 1)[1] == start


@settings(max_examples=quickly(100))
@given(name=st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/New_York"]), at_us=st.integers(0, LAST_US))
def test_each_instant_is_in_one_hour(name: str, at_us: int) -> None:
    zone = ZoneInfo(name)
    start, end = calendars.window("hour", zone, at_us)
    assert start <= at_us < end == start + HOUR_US
    assert calendars.window("hour", zone, start) == calendars.window("hour", zone, end - 1) == (start, end)


@settings(max_examples=quickly(100))
@given(
    unit=st.sampled_from(calendars.UNITS),
    name=st.sampled_from(ZONES),
    at_us=st.integers(DAY_US * 800, LAST_US),
)
def test_the_table_of_boundaries_rises_and_has_the_instant_in_its_middle(unit: str, name: str, at_us: int) -> None:
    before, start, end, after = calendars.boundaries(unit, ZoneInfo(name), at_us)
    assert before < start <= at_us < end < after


@pytest.mark.parametrize("unit", ["hour", "day"])
def test_hours_and_days_of_utc_are_those_of_the_epoch(unit: str) -> None:
    limit = FixedWindow(1, per=unit)
    by_calendar = calendars.window(unit, ZoneInfo("UTC"), us("2026-07-01T10:20:30.123456"))
    assert limit.window(us("2026-07-01T10:20:30.123456")) == by_calendar
    assert limit.unit is None

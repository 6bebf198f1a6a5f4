"""The limits as values: what numbers they take, what they refuse, and what they say of themselves."""

from __future__ import annotations

import copy
import enum
import math
import pickle
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from headgate import (
    Concurrency,
    FixedWindow,
    Limit,
    LimitError,
    LimitOutOfBounds,
    Penalty,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    parse_limit,
)
from headgate.algorithms import MAX_SPAN_US, MAX_TOKENS

EVERY_KIND: list[Any] = [TokenBucket, FixedWindow, SlidingWindow, SlidingLog, Concurrency]
EVERY_LIMIT = [
    TokenBucket(100, per=60, burst=20),
    FixedWindow(100, per=60),
    FixedWindow(100, per="month", tz="Europe/Berlin"),
    SlidingWindow(100, per=60),
    SlidingLog(100, per=60),
    Concurrency(100, ttl=90),
    Penalty(100, per=60, block=90),
]


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    ("per", "period_us"),
    [
        (1, 1_000_000),
        (0.5, 500_000),
        (0.1, 100_000),
        (1e-6, 1),
        (Decimal("0.000001"), 1),
        (Decimal("1e3"), 1_000_000_000),
        (timedelta(minutes=5), 300_000_000),
        (timedelta(microseconds=1), 1),
        (86_400 * 365 * 35, 86_400 * 365 * 35 * 10**6),
    ],
)
def test_a_period_is_seconds_of_any_type_or_a_timedelta(kind: Any, per: Any, period_us: int) -> None:
    assert kind(3, per).period_us == period_us


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    ("per", "problem"),
    [
        (0, "a period must be longer than nothing"),
        (-1, "a period must be longer than nothing"),
        (timedelta(0), "a period must be longer than nothing"),
        (timedelta(seconds=-1), "a period must be longer than nothing"),
        (1 / 3, "a period must be a whole number of microseconds"),
        (1e-7, "a period must be a whole number of microseconds"),
        (Decimal("0.0000015"), "a period must be a whole number of microseconds"),
        (86_400 * 365 * 36, "a period must be shorter than 35 years"),
        (1e300, "a period must be shorter than 35 years"),
        (math.inf, "a period is a number of seconds or a timedelta"),
        (math.nan, "a period is a number of seconds or a timedelta"),
        (True, "a period"),
        (None, "a period is a number of seconds or a timedelta"),
        ([60], "a period is a number of seconds or a timedelta"),
    ],
)
def test_a_period_that_cannot_be_is_refused(kind: Any, per: Any, problem: str) -> None:
    with pytest.raises(LimitOutOfBounds, match=problem):
        kind(3, per)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (0, "must be at least 1, not 0: to let nothing through, deny in your code"),
        (-5, "must be at least 1, not -5"),
        (1.0, "must be an integer, not 1.0"),
        (1.5, "must be an integer, not 1.5: for one and a half a second, say 3 per 2 seconds"),
        ("5", "must be an integer, not '5'"),
        (True, "must be an integer, not True"),
        (None, "must be an integer, not None"),
        (math.inf, "must be an integer, not inf"),
        (Fraction(3), "must be an integer"),
        (np.float64(5), "must be an integer"),
        (np.True_, "must be an integer"),
        (np.array([5, 6]), "must be an integer"),
        (2**51, r"must be below 2\*\*51, where all stores count exactly"),
        (10**400, r"must be below 2\*\*51"),
    ],
)
def test_a_count_that_cannot_be_is_refused(kind: Any, count: Any, problem: str) -> None:
    with pytest.raises(LimitOutOfBounds, match=problem):
        kind(count, 1)
    with pytest.raises(LimitOutOfBounds, match=problem):
        TokenBucket(5, burst=count) if count is not None else kind(count)


class Five:
    def __index__(self) -> int:
        return 5


class Count(enum.IntEnum):
    FIVE = 5


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    "count", [np.int64(5), np.uint8(5), Five(), Count.FIVE], ids=lambda count: type(count).__name__
)
def test_a_count_is_whatever_counts_as_an_integer(kind: Any, count: Any) -> None:
    limit = kind(count, np.int64(60))
    assert limit == kind(5, 60)
    assert (str(limit), hash(limit)) == (str(kind(5, 60)), hash(kind(5, 60)))
    assert (type(limit.rate), type(limit.capacity), type(limit.period_us)) == (int, int, int)
    assert type(TokenBucket(count, burst=count).burst) is int


def test_the_largest_and_the_smallest_limits_can_be_made() -> None:
    assert TokenBucket(MAX_TOKENS, per=1e-6).capacity == MAX_TOKENS
    assert TokenBucket(MAX_TOKENS, per=86_400).rate == MAX_TOKENS
    assert TokenBucket(1, per=timedelta(microseconds=MAX_SPAN_US)).period_us == MAX_SPAN_US
    assert FixedWindow(MAX_TOKENS, per=timedelta(microseconds=MAX_SPAN_US)).capacity == MAX_TOKENS
    assert SlidingLog(10_000, per=1).capacity == 10_000
    assert Concurrency(100_000).capacity == 100_000


def test_a_bucket_fills_in_less_than_35_years_or_is_refused() -> None:
    days = MAX_SPAN_US // 86_400_000_000
    assert TokenBucket(1, per=86_400, burst=days).capacity == days
    with pytest.raises(LimitOutOfBounds, match="takes more than 35 years to fill: lower the burst, or raise the rate"):
        TokenBucket(1, per=86_400, burst=days + 1)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
def test_no_number_that_a_script_sees_reaches_what_it_cannot_count(limit: Limit) -> None:
    for biggest in (limit, *_biggest(type(limit))):
        now = 4_481_222_400_000_000  # in 2112
        words = biggest.algorithm.wire(biggest.arguments(biggest.capacity, now, "holder"))
        assert all(isinstance(word, str) or 0 <= word < 2**53 for word in words)


def _biggest(kind: type[Limit]) -> list[Limit]:
    span = timedelta(microseconds=MAX_SPAN_US)
    return {
        TokenBucket: [TokenBucket(MAX_TOKENS, 1), TokenBucket(1, span), TokenBucket(MAX_TOKENS, span)],
        FixedWindow: [FixedWindow(MAX_TOKENS, span), FixedWindow(MAX_TOKENS, "year", "Europe/Berlin")],
        SlidingWindow: [SlidingWindow(MAX_TOKENS, 0.000_001), SlidingWindow(10**6, span)],
        SlidingLog: [SlidingLog(10_000, span)],
        Concurrency: [Concurrency(100_000, span)],
        Penalty: [Penalty(1_000, span, span)],
    }[kind]  # type: ignore[return-value]


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
def test_a_limit_is_a_value(limit: Limit) -> None:
    same = parse_limit(str(limit))
    assert same == limit
    assert same is not limit
    assert len({same, limit}) == 1
    assert limit != str(limit)
    for duplicate in (copy.copy(limit), copy.deepcopy(limit), pickle.loads(pickle.dumps(limit))):
        assert duplicate == limit


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
def test_a_limit_cannot_be_changed(limit: Limit) -> None:
    for name in ("rate", "capacity", "period_us", "new"):
        with pytest.raises(AttributeError, match="is immutable: make a new limit instead"):
            setattr(limit, name, 5)
    with pytest.raises(AttributeError, match="is immutable"):
        del limit.rate


def test_different_limits_are_different() -> None:
    different = [
        TokenBucket(5),
        TokenBucket(5, burst=6),
        TokenBucket(5, 2),
        FixedWindow(5),
        FixedWindow(5, "week"),
        FixedWindow(5, 604_800),
        FixedWindow(5, "month"),
        FixedWindow(5, "month", "Europe/Berlin"),
        FixedWindow(5, "day", "Europe/Berlin"),
        SlidingWindow(5),
        SlidingLog(5),
        Concurrency(5),
        Concurrency(5, 1),
        Penalty(5, 1, 1),
        Penalty(5, 1, 2),
        Penalty(5, 2, 1),
    ]
    assert len(set(different)) == len(different)
    assert len({str(limit) for limit in different}) == len(different)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (TokenBucket(100, per=60), "100/minute"),
        (TokenBucket(100, per=60, burst=100), "100/minute"),
        (TokenBucket(100, per=60, burst=150), "100/minute; burst=150"),
        (TokenBucket(1, per=0.0015), "1/1500us"),
        (TokenBucket(1, per=7_200), "1/2h"),
        (TokenBucket(1, per=604_800), "1/week"),
        (TokenBucket(1, per=1_209_600), "1/14d"),
        (FixedWindow(5, per="day"), "fixed-window 5/day"),
        (FixedWindow(5, per="day", tz="UTC"), "fixed-window 5/day"),
        (FixedWindow(5, per="week"), "fixed-window 5/week"),
        (FixedWindow(5, per=604_800), "fixed-window 5/7d"),
        (FixedWindow(5, per="month", tz="Europe/Berlin"), "fixed-window 5/month; tz=Europe/Berlin"),
        (SlidingWindow(5, per=300), "sliding-window 5/5m"),
        (SlidingLog(5, per=0.5), "sliding-log 5/500ms"),
        (Concurrency(50), "concurrency 50"),
        (Concurrency(50, ttl=60), "concurrency 50"),
        (Concurrency(50, ttl=1), "concurrency 50; ttl=1s"),
        (Concurrency(50, ttl=604_800), "concurrency 50; ttl=7d"),
        (Penalty(10, per=60, block=3600), "penalty 10 denials/minute -> 1h"),
        (Penalty(1, per=90, block=604_800), "penalty 1 denial/90s -> 7d"),
    ],
)
def test_a_limit_prints_itself_in_its_grammar(limit: Limit, text: str) -> None:
    assert str(limit) == text
    assert repr(limit) == f"parse_limit({text!r})"
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("limit", "label"),
    [
        (TokenBucket(100, per=60), "per-minute"),
        (TokenBucket(7, per=60, burst=3), "per-minute"),
        (TokenBucket(7, per=30), "per-30s"),
        (FixedWindow(7, per="month"), "per-month"),
        (FixedWindow(7, per=604_800), "per-7d"),
        (SlidingWindow(7, per=60), "per-minute"),
        (Concurrency(7), "concurrency"),
        (Concurrency(8, ttl=5), "concurrency"),
        (Penalty(7, per=5, block=6), "penalty"),
    ],
)
def test_a_label_stays_when_the_numbers_change(limit: Limit, label: str) -> None:
    assert limit.label == label


@pytest.mark.parametrize("per", ["minute", "Day", "days", "", "30s", "second"])
def test_only_calendar_units_are_words_for_a_window(per: str) -> None:
    with pytest.raises(LimitOutOfBounds, match="a calendar window is one of hour, day, week, month, year, not"):
        FixedWindow(5, per=per)


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "Europe", "../Europe/Berlin", "/etc/passwd", "\0", "a" * 5000, "é"]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(LimitError, match="time zone") as caught:
        FixedWindow(5, per="day", tz=zone)
    assert "unknown" in str(caught.value)


@pytest.mark.parametrize("zone", [5, b"UTC", ["UTC"]])
def test_a_time_zone_that_is_no_text_is_refused(zone: Any) -> None:
    with pytest.raises(LimitError):
        FixedWindow(5, per="day", tz=zone)


def test_a_time_zone_goes_with_the_calendar_only() -> None:
    with pytest.raises(LimitOutOfBounds, match='tz goes with a window of the calendar, such as per="day"'):
        FixedWindow(5, per=60, tz="Europe/Berlin")


class Number(enum.IntEnum):
    """An integer that does not print as one."""

    FIVE = 5


def test_an_integer_of_another_type_is_kept_as_a_plain_one() -> None:
    for limit in (TokenBucket(Number.FIVE), SlidingLog(Number.FIVE), Concurrency(Number.FIVE)):
        assert type(limit.rate) is int
        assert type(limit.capacity) is int
        assert limit == type(limit)(5)
    assert type(TokenBucket(1, burst=Number.FIVE).capacity) is int


def test_a_limit_that_is_leased_is_the_same_but_for_what_it_takes_back() -> None:
    bucket = TokenBucket(7, per=60, burst=3)
    leased = bucket.leased()
    for one in (leased, pickle.loads(pickle.dumps(leased)), copy.deepcopy(leased)):
        assert (one, hash(one), one.arguments(2, 0, "")) == (bucket, hash(bucket), bucket.arguments(2, 0, ""))
        assert one.receipt((1, 2, 3, 4), 1) == (3, 4, True)
    assert pickle.loads(pickle.dumps(bucket)).receipt((1, 2, 3, 4), 1) == (3, 4, False)
    assert bucket.receipt((1, 2, 3, 4), 1) == (3, 4, False)
    window = FixedWindow(7, per=60)
    assert window.leased() is window


def test_a_penalty_tells_what_its_facts_mean() -> None:
    limit, now_us = Penalty(3, per=60, block=90), 10**15
    assert (limit.denials, limit.period_us, limit.block_us) == (3, 60_000_000, 90_000_000)
    nothing, one, blocked = (0, 0, 0), (0, 1, now_us - 10_000_000), (now_us + 5, 0, 0)
    assert [limit.remaining(facts, now_us) for facts in (nothing, one, blocked)] == [3, 2, 0]
    assert [limit.retry_after_us(facts, now_us, 1) for facts in (nothing, one, blocked)] == [0, 0, 5]
    assert [limit.reset_after_us(facts, now_us) for facts in (nothing, one, blocked)] == [0, 50_000_000, 5]
    assert limit.remaining((0, 7, now_us), now_us) == 1  # it counted under other numbers: the next denial blocks

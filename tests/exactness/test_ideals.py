"""The ideals that libraries are held against hold for a correct limiter, whatever instants the spans hide."""

from __future__ import annotations

from fractions import Fraction

import pytest
from benchmarks import ideals
from benchmarks.ideals import Bounds, Ideal, Rate, Span
from hypothesis import given
from hypothesis import strategies as st

from headgate import FixedWindow, Limit, Limiter, ManualClock, MemoryStore, SlidingLog, SlidingWindow, TokenBucket

START_US = 1_800_000_000_000_000

IDEALS: dict[str, Ideal] = {
    "token bucket": ideals.token_bucket,
    "fixed window": ideals.fixed_window,
    "sliding window": ideals.sliding_window_rounded_up,
    "sliding log": ideals.sliding_log,
}

rates = st.builds(Rate, st.integers(1, 5), st.integers(7, 60), st.integers(1, 6))


@st.composite
def asked(draw: st.DrawFn, longest_us: int = 15, longest_gap_us: int = 25) -> tuple[list[Span], list[int]]:
    """Spans, and an instant in each."""
    spans, instants = [], []
    at = START_US + draw(st.integers(0, 60))
    for gap in draw(st.lists(st.integers(0, longest_gap_us), min_size=1, max_size=60)):
        at += gap
        before, after = draw(st.integers(0, longest_us)), draw(st.integers(0, longest_us))
        spans.append(Span(at - before, at + after))
        instants.append(at)
    return spans, instants


def limit_of(algorithm: str, rate: Rate) -> Limit:
    per = Fraction(rate.period_us, 1_000_000)
    if algorithm == "token bucket":
        return TokenBucket(rate.tokens, float(per), burst=rate.burst)
    made = {"fixed window": FixedWindow, "sliding window": SlidingWindow, "sliding log": SlidingLog}[algorithm]
    limit: Limit = made(rate.tokens, float(per))
    return limit


def admitted_by(limit: Limit, instants: list[int]) -> list[int]:
    """What headgate admits at these instants."""
    clock = ManualClock(START_US)
    limiter = Limiter(limit, store=MemoryStore(clock))
    admitted = []
    for instant in instants:
        clock.set(instant)
        if limiter.try_acquire("k"):
            admitted.append(instant)
    return admitted


@pytest.mark.parametrize("algorithm", IDEALS)
@given(rate=rates, case=asked())
def test_a_correct_limiter_lies_within_the_bounds(
    algorithm: str, rate: Rate, case: tuple[list[Span], list[int]]
) -> None:
    spans, instants = case
    bounds = IDEALS[algorithm](spans, rate)
    assert bounds.least <= len(admitted_by(limit_of(algorithm, rate), instants)) <= bounds.most


@pytest.mark.parametrize("algorithm", IDEALS)
@given(rate=rates, case=asked())
def test_where_the_instants_are_known_the_bounds_leave_no_room(
    algorithm: str, rate: Rate, case: tuple[list[Span], list[int]]
) -> None:
    _, instants = case
    bounds = IDEALS[algorithm]([Span(instant, instant) for instant in instants], rate)
    admitted = len(admitted_by(limit_of(algorithm, rate), instants))
    assert bounds == (admitted, admitted)


@given(rate=rates, case=asked(longest_us=3_000, longest_gap_us=2_000), data=st.data())
def test_windows_that_begin_with_a_request_lie_within_their_bounds(
    rate: Rate, case: tuple[list[Span], list[int]], data: st.DataObject
) -> None:
    spans, instants = case
    admitted, spent, end = 0, 0, 0
    late_us = data.draw(st.integers(0, ideals.EXPIRY_GRAIN_US))
    for instant in instants:
        if instant >= end:
            spent, end = 0, instant + rate.period_us + late_us
        admitted += spent < rate.tokens
        spent += 1
    bounds = ideals.fixed_window_from_first(spans, rate)
    assert bounds.least <= admitted <= bounds.most


@given(rate=rates, case=asked())
def test_the_largest_burst_is_what_some_interval_shows(rate: Rate, case: tuple[list[Span], list[int]]) -> None:
    spans, instants = case
    per_us = Fraction(rate.tokens, rate.period_us)
    points = [Span(instant, instant) for instant in instants]
    shown = max(
        j - i + 1 - per_us * (instants[j] - instants[i]) for i in range(len(instants)) for j in range(i, len(instants))
    )
    assert ideals.largest_burst(points, rate) == pytest.approx(float(shown))
    assert ideals.largest_burst(spans, rate) <= float(shown) + 1e-9


@given(rate=rates, case=asked(longest_us=0))
def test_a_bucket_shows_no_larger_burst_than_its_own(rate: Rate, case: tuple[list[Span], list[int]]) -> None:
    admitted = admitted_by(limit_of("token bucket", rate), case[1])
    assert ideals.largest_burst([Span(at, at) for at in admitted], rate) <= rate.burst


def test_a_ratio_is_the_one_to_the_nearer_bound() -> None:
    assert [Bounds(90, 110).ratio(admitted) for admitted in (45, 90, 100, 110, 220)] == [0.5, 1, 1, 1, 2]
    assert Bounds(0, 0).ratio(0) == 1
    assert Bounds(0, 0).ratio(1) == float("inf")

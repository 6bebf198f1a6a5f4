"""Random limits and random schedules, for Hypothesis.

The times are drawn in the limits' own measures (a token, a period, a whole burst) and a few microseconds around them,
since that is where the edges are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from headgate.algorithms import MAX_SPAN_US, MAX_TOKENS
from headgate.hits import Action
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket

START_US = 1_800_000_000_000_000
LAST_US = 2**52 - 1
"""Until the year 2112, scripts count exactly; see MAX_SPAN_US."""

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


def span(us: int) -> timedelta:
    """A time that is exactly so many microseconds long."""
    return timedelta(microseconds=us)


PERIODS_US = st.one_of(
    st.sampled_from(
        [1, 2, 3, 7, 1_000, 500_000, SECOND_US, 2_333_333, 7 * SECOND_US, 60 * SECOND_US, DAY_US, 30 * DAY_US]
    ),
    st.integers(1, 2 * SECOND_US),
    st.integers(1, 400 * DAY_US),
    st.sampled_from([MAX_SPAN_US, MAX_SPAN_US - 1, MAX_SPAN_US // 3]),
)
RATES = st.one_of(
    st.integers(1, 12),
    st.sampled_from([60, 100, 997, 1_000_003, 5_000_000, 10**9, 2**50]),
    st.integers(1, 10**7),
)


@st.composite
def token_buckets(draw: st.DrawFn) -> TokenBucket:
    rate, period_us = draw(RATES), draw(PERIODS_US)
    most = MAX_SPAN_US * rate // period_us
    burst = draw(st.sampled_from([1, 2, 3, rate, min(2 * rate + 1, MAX_TOKENS)]) | st.integers(1, 100))
    return TokenBucket(rate, span(period_us), max(1, min(burst, most)))


def fixed_windows() -> st.SearchStrategy[FixedWindow]:
    zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia", "America/New_York"])
    calendar = st.builds(FixedWindow, RATES, st.sampled_from(["day", "week", "month", "year"]), zones)
    return calendar | st.builds(lambda rate, us: FixedWindow(rate, span(us)), RATES, PERIODS_US)


@st.composite
def sliding_windows(draw: st.DrawFn) -> SlidingWindow:
    rate, period_us = draw(RATES), draw(PERIODS_US)
    most = (period_us // 1_000 - 1) * 2**52 // period_us  # so many can be kept exactly
    return SlidingWindow(max(1, min(rate, most)) if rate * period_us >= 2**52 else rate, span(period_us))


def sliding_logs() -> st.SearchStrategy[SlidingLog]:
    return st.builds(lambda rate, us: SlidingLog(rate, span(us)), st.integers(1, 30) | st.just(10_000), PERIODS_US)


def slots() -> st.SearchStrategy[Concurrency]:
    return st.builds(lambda most, us: Concurrency(most, span(us)), st.integers(1, 6), PERIODS_US)


def penalties() -> st.SearchStrategy[Penalty]:
    return st.builds(
        lambda most, us, block_us: Penalty(most, span(us), span(block_us)),
        st.integers(1, 4) | st.just(1_000),
        PERIODS_US,
        PERIODS_US,
    )


KINDS: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    "tb": token_buckets,
    "fw": fixed_windows,
    "sw": sliding_windows,
    "sl": sliding_logs,
    "cc": slots,
    "pn": penalties,
}


class Lane(NamedTuple):
    """One name, and the limits that it has in turn. All of one algorithm, so that they meet the same state."""

    name: str
    limits: list[Limit]


class Step(NamedTuple):
    """What to do next. Numbers that choose among what there is are taken modulo how much there is."""

    move_us: int
    action: Action
    lanes: list[int]
    limits: int
    costs: list[int]
    max_wait_us: int
    which: int


@st.composite
def lanes(draw: st.DrawFn, *, kinds: Sequence[str], most_limits: int = 3, most_lanes: int = 4) -> list[Lane]:
    codes = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most_lanes))
    return [
        Lane(f"lane {number}", draw(st.lists(KINDS[code](), min_size=1, max_size=most_limits)))
        for number, code in enumerate(codes)
    ]


def moments_us(limits: Sequence[Limit]) -> st.SearchStrategy[int]:
    """Times that matter to some limits: nothing, a token, a period, a burst, and a little more or less."""
    measures = {0, 1, SECOND_US}
    for limit in limits:
        token_us = -(-limit.period_us // limit.rate)
        measures |= {token_us, limit.period_us, token_us * limit.capacity}
        if isinstance(limit, Penalty):
            measures.add(limit.block_us)
    return st.builds(
        lambda measure, times, more: max(0, min(MAX_SPAN_US // 4, measure * times + more)),
        st.sampled_from(sorted(measures)),
        st.sampled_from([0, 1, 1, 2, 3]),
        st.integers(-2, 2),
    )


@st.composite
def steps(
    draw: st.DrawFn, among: Sequence[Lane], *, actions: Sequence[Action], may_go_back: bool, most: int = 25
) -> list[Step]:
    limits = [limit for lane in among for limit in lane.limits]
    moments = moments_us(limits)
    moves = moments if not may_go_back else st.builds(lambda us, sign: us * sign, moments, st.sampled_from([1, 1, -1]))
    costs = st.integers(0, 5) | st.sampled_from([limit.capacity for limit in limits]) | st.integers(0, 2**40)
    numbers = st.integers(0, 2**16)
    step = st.builds(
        Step,
        st.just(0) | moves,
        st.sampled_from(actions),
        st.lists(st.integers(0, len(among) - 1), min_size=1, max_size=len(among), unique=True),
        numbers,
        st.lists(costs, min_size=len(among), max_size=len(among)),
        st.just(0) | st.just(MAX_SPAN_US) | moments,
        numbers,
    )
    return draw(_sized_lists(step, most))


@st.composite
def queues(draw: st.DrawFn, *, most: int = 40) -> tuple[list[Lane], list[Step]]:
    """A token bucket for which many wait, of whom many leave before or after their turn."""
    rate, period_us, burst = draw(st.integers(1, 7)), draw(st.integers(1, 20)), draw(st.integers(1, 8))
    lane = Lane("queue", [TokenBucket(rate, span(period_us), burst)])
    token_us = -(-period_us // rate)
    step = st.builds(
        Step,
        st.sampled_from([0, 0, 0, 0, 1, 1, 2, token_us, token_us * burst]),
        st.sampled_from(["spend", "spend", "spend", "give_back", "give_back"]),
        st.just([0]),
        st.just(0),
        st.lists(st.integers(1, burst), min_size=1, max_size=1),
        st.sampled_from([0, token_us * burst, MAX_SPAN_US, MAX_SPAN_US]),
        st.integers(0, 30),
    )
    return [lane], draw(_sized_lists(step, most))


@st.composite
def _sized_lists(draw: st.DrawFn, elements: st.SearchStrategy[Step], most: int) -> list[Step]:
    """As `st.lists`, but as often long as short: it takes some steps to get anywhere."""
    size = draw(st.integers(2, most))
    return draw(st.lists(elements, min_size=size, max_size=size))

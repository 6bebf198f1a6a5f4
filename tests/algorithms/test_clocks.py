"""Clocks that jump back and forth: never over the limit, and nobody is locked out for longer than the limit spans.

What counts as time is how far the clock has gone forward: where it steps back, it is as if it had stood still. The same
holds of the scripts, which compute the same integers: see test_dialects.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Limiter, ManualClock, MemoryStore
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import START_US, span
from tests.algorithms.test_promises import assert_bounded
from tests.profiles import quickly

HOUR_US = 3_600_000_000
PERIODS_US = st.sampled_from([1, 2, 7, 1_000, 60_000_000])


class Jump(NamedTuple):
    """How far the clock goes, in fifths of a period and microseconds, and what is asked then."""

    fifths: int
    more_us: int
    cost: int

    def move_us(self, limit: Limit) -> int:
        return self.fifths * limit.period_us // 5 + self.more_us


JUMPS = st.lists(
    st.builds(
        Jump,
        st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, -5, 10, -10, 500, -500]),
        st.sampled_from([0, 0, 1, -1, 2, -2, 3, 5]) | st.integers(-500, 1_000),
        st.integers(1, 5),
    ),
    min_size=2,
    max_size=60,
)


class Asked(NamedTuple):
    """What was asked, how far the clock had gone forward by then, and what was answered."""

    elapsed_us: int
    hit: Hit
    decision: Decision


def ask(limit: Limit, jumps: Sequence[Jump]) -> list[Asked]:
    reference, now_us, elapsed_us = Reference(), START_US, 0
    asked = []
    for number, jump in enumerate(jumps):
        move_us = jump.move_us(limit)
        now_us += move_us
        elapsed_us += max(0, move_us)
        hit = Hit(limit, "key", "name", min(jump.cost, limit.capacity), f"{number:x}.{limit.period_us}")
        asked.append(Asked(elapsed_us, hit, reference.decide(Group((hit,)), now_us)))
    return asked


def admitted(asked: Sequence[Asked]) -> list[tuple[int, int]]:
    return [(at_us, hit.cost) for at_us, hit, decision in asked if decision.allowed]


@settings(max_examples=quickly(300))
@given(rate=st.integers(1, 6), period_us=PERIODS_US, jumps=JUMPS)
def test_a_sliding_log_never_admits_more_than_its_rate_while_the_clock_goes_a_period_forward(
    rate: int, period_us: int, jumps: list[Jump]
) -> None:
    found = admitted(ask(SlidingLog(rate, span(period_us)), jumps))
    for began_us, _ in found:
        assert sum(cost for at_us, cost in found if began_us <= at_us < began_us + period_us) <= rate


@settings(max_examples=quickly(300))
@given(rate=st.integers(1, 6), period_us=PERIODS_US, jumps=JUMPS)
def test_a_sliding_window_admits_no_more_than_it_promises_of_how_far_the_clock_goes_forward(
    rate: int, period_us: int, jumps: list[Jump]
) -> None:
    assert_bounded(admitted(ask(SlidingWindow(rate, span(period_us)), jumps)), period_us, rate, rate)


def test_both_counts_of_a_sliding_window_are_carried_back() -> None:
    jumps = [Jump(4, 0, 5), Jump(1, 0, 1), Jump(1, 0, 1), Jump(-5, 0, 1), Jump(0, 0, 1), Jump(2, 0, 1)]
    asked = ask(SlidingWindow(5, span(1_000)), jumps)
    assert [decision.allowed for _, _, decision in asked] == [True, False, True, False, False, False]


@settings(max_examples=quickly(300))
@given(rate=st.integers(1, 6), period_us=PERIODS_US, jumps=JUMPS)
def test_a_fixed_window_admits_one_window_more_at_most_however_often_the_clock_steps_back(
    rate: int, period_us: int, jumps: list[Jump]
) -> None:
    found = admitted(ask(FixedWindow(rate, span(period_us)), jumps))
    for began_us, _ in found:
        assert sum(cost for at_us, cost in found if began_us <= at_us < began_us + period_us) <= 3 * rate


def test_a_clock_that_trembles_around_the_edge_of_a_window_opens_one_fresh_count() -> None:
    trembling = [Jump(0, -2 if number % 2 else 2, 1) for number in range(100)]
    found = admitted(ask(FixedWindow(3, span(1_000)), [Jump(0, -1, 1), *trembling]))
    assert len(found) <= 6


@settings(max_examples=quickly(300))
@given(slots=st.integers(1, 6), period_us=PERIODS_US, jumps=JUMPS)
def test_slots_are_never_held_by_more_than_there_are_while_the_clock_goes_their_ttl_forward(
    slots: int, period_us: int, jumps: list[Jump]
) -> None:
    limit = Concurrency(slots, span(period_us))
    held = [(at_us, at_us + period_us, hit.cost) for at_us, hit, decision in ask(limit, jumps) if decision.allowed]
    for began_us, _, _ in held:
        assert sum(cost for from_us, until_us, cost in held if from_us <= began_us < until_us) <= slots


LIMITS: dict[str, tuple[Limit, int]] = {
    "fixed window": (FixedWindow(5, per=60), 1),
    "fixed window by the day": (FixedWindow(5, per="day", tz="Europe/Berlin"), 2),  # some have 25 hours
    "sliding window": (SlidingWindow(5, per=60), 2),
    "sliding log": (SlidingLog(5, per=60), 1),
    "slots": (Concurrency(5, ttl=60), 1),
}
KINDS = pytest.mark.parametrize(("limit", "periods"), LIMITS.values(), ids=LIMITS)


@KINDS
@settings(max_examples=quickly(100))
@given(jumps=JUMPS)
def test_nobody_is_told_to_wait_for_longer_than_the_limit_spans(limit: Limit, periods: int, jumps: list[Jump]) -> None:
    for _, _, decision in ask(limit, jumps):
        assert decision.retry_after_us <= periods * limit.period_us
        assert decision.reset_after_us <= 2 * limit.period_us


@KINDS
@settings(max_examples=quickly(50))
@given(jumps=JUMPS)
def test_whoever_was_denied_is_admitted_when_told_wherever_the_clock_jumped_before(
    limit: Limit, periods: int, jumps: list[Jump]
) -> None:
    reference, now_us = Reference(), START_US
    denied: Any = None
    for number, jump in enumerate([*jumps, Jump(0, 0, 5)]):
        now_us += jump.move_us(limit)
        hit = Hit(limit, "key", "name", jump.cost, f"{number:x}.{limit.period_us}")
        denied = reference.decide(Group((hit,)), now_us)
    if not denied:
        peek = Group((hit,), 0, "peek")
        assert not reference.decide(peek, now_us + denied.retry_after_us - 1)
        assert reference.decide(peek, now_us + denied.retry_after_us)


@KINDS
def test_what_a_denied_hit_put_right_is_not_put_right_again_with_each_that_comes(limit: Limit, periods: int) -> None:
    """Or everybody would be denied until the clock is there again."""
    reference = Reference()
    reference.decide(Group((Hit(limit, "key", "name", 5, f"a.{limit.period_us}"),)), START_US)
    admitted_after_us = 0
    for number in range(100):
        now_us = START_US - 24 * HOUR_US * 100 + number * limit.period_us // 10
        hit = Hit(limit, "key", "name", 1, f"{number:x}.{limit.period_us}")
        if reference.decide(Group((hit,)), now_us):
            admitted_after_us = now_us - (START_US - 24 * HOUR_US * 100)
            break
    assert 0 < admitted_after_us <= periods * limit.period_us


@pytest.mark.parametrize(
    "limit", [limit for limit, _ in LIMITS.values() if not isinstance(limit, Concurrency)], ids=str
)
def test_a_peek_by_a_clock_that_has_stepped_back_writes_no_state(limit: Limit) -> None:
    """But of slots, which whoever looks shortens."""
    reference = Reference()
    hit = Hit(limit, "key", "name", 5)
    reference.decide(Group((hit,)), START_US)
    before = dict(reference.states)
    assert not reference.decide(Group((hit,), 0, "peek"), START_US - 24 * HOUR_US)
    assert reference.states == before
    assert not reference.decide(Group((hit,)), START_US)


def test_a_holder_with_a_longer_ttl_keeps_its_slot_where_the_limit_has_a_shorter_one() -> None:
    long, short = Concurrency(1, ttl=600), Concurrency(1, ttl=6)
    reference = Reference()
    assert reference.decide(Group((Hit(long, "key", "name", 1, "a.600000000"),)), START_US)
    denied = reference.decide(Group((Hit(short, "key", "name", 1, "b.6000000"),)), START_US + 1)
    assert denied.retry_after_us == 599_999_999
    denied = reference.decide(Group((Hit(short, "key", "name", 1, "b.6000000"),)), START_US - HOUR_US)
    assert denied.retry_after_us == 600_000_000


def test_a_holder_without_a_ttl_in_its_name_is_left_alone() -> None:
    limit, reference = Concurrency(1, ttl=6), Reference()
    assert reference.decide(Group((Hit(limit, "key", "name", 1, "somebody"),)), START_US)
    denied = reference.decide(Group((Hit(limit, "key", "name", 1, "b.6000000"),)), START_US - HOUR_US)
    assert denied.retry_after_us == HOUR_US + 6_000_000


@pytest.mark.parametrize("limit", [limit for limit, _ in LIMITS.values()], ids=LIMITS)
def test_a_limiter_in_memory_goes_on_after_a_clock_stepped_back_by_an_hour(limit: Limit) -> None:
    clock = ManualClock()
    limiter = Limiter(limit, store=MemoryStore(clock), name="n")
    while limiter.try_acquire("k"):
        pass
    clock.advance(seconds=-3_600)
    denied = limiter.try_acquire("k")
    assert not denied
    assert denied.retry_after_us <= 2 * limit.period_us
    clock.advance(microseconds=denied.retry_after_us)
    assert limiter.try_acquire("k")


def test_the_sum_of_what_is_admitted_grows_with_the_forward_way_alone() -> None:
    """An hour back and forth, many times over: each hour forward is an hour."""
    jumps = [Jump(fifths, 0, 1) for fifths in (0, 0, 0, -300, 0, 300, 0, -300, 0, 300, 0)]
    for limit in (FixedWindow(1, per=60), SlidingLog(1, per=60), SlidingWindow(1, per=60)):
        allowed = list(accumulate(decision.allowed for _, _, decision in ask(limit, jumps)))
        assert allowed == [1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]

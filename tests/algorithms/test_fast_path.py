"""What makes the memory store quick: the fast path of logs answers as `judge` with `spend` or `keep`, and a packed
state is unpacked as what it was.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.algorithms import sliding_log
from headgate.limits import FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from tests.profiles import quickly

START_US = 1_800_000_000_000_000
LOG = SlidingLog(7, per=3)
PACKED = [TokenBucket(7, per=3), FixedWindow(7, per=3), SlidingWindow(7, per=3)]


def the_long_way(limit: Limit, state: Any, now_us: int, cost: int) -> tuple[bool, Any, int, Any]:
    allowed, judged = limit.algorithm.judge(state, now_us, limit.arguments(cost, now_us, ""), 0)
    if allowed:
        spent = limit.algorithm.spend(judged)
        assert spent
        return True, *spent
    return False, state, 0, limit.algorithm.keep(judged)


def plain(state: Any) -> Any:
    """A state that can be compared."""
    return [*state.hits(), state.total] if hasattr(state, "hits") else state


@settings(max_examples=quickly(200))
@given(steps=st.lists(st.tuples(st.integers(-1_000_000, 4_000_000), st.integers(1, 7)), max_size=30))
def test_it_answers_as_judge_with_spend_or_keep(steps: list[tuple[int, int]]) -> None:
    fast_path = sliding_log.fast_path(LOG.arguments(1, 0, ""))
    state: Any = None
    now_us, until_us = START_US, 0
    for passed_us, cost in steps:
        now_us += passed_us
        if until_us <= now_us:
            state = None
        mine = copy.deepcopy(state)
        expected = the_long_way(LOG, state, now_us, cost)
        if mine is not None and (found := fast_path(mine, now_us, cost)) is not None:
            allowed, after, ends_us, facts = found
            assert (allowed, plain(after), ends_us, facts) == (expected[0], plain(expected[1]), *expected[2:])
        if expected[0]:
            _, state, until_us, _ = expected


def test_it_answers_for_what_is_usual() -> None:
    fast_path = sliding_log.fast_path(LOG.arguments(1, 0, ""))
    _, state, _, _ = the_long_way(LOG, None, START_US, 1)
    answers = [fast_path(state, START_US + 1, cost) for cost in (1, 7)]
    assert [answer and answer[0] for answer in answers] == [True, False]
    assert fast_path(state, START_US - 1, 1) is None  # time went back


@pytest.mark.parametrize("limit", PACKED, ids=str)
@settings(max_examples=quickly(200))
@given(steps=st.lists(st.tuples(st.integers(-1_000_000, 4_000_000), st.integers(1, 7)), max_size=30))
def test_what_is_packed_is_what_is_unpacked(limit: Any, steps: list[tuple[int, int]]) -> None:
    algorithm = limit.algorithm
    unit = limit.arguments(1, 0, "")[2]
    state, now_us, until_us, are_packed = None, START_US, 0, []
    for passed_us, cost in steps:
        now_us += passed_us
        allowed, state, ends_us, _ = the_long_way(limit, state if until_us > now_us else None, now_us, cost)
        until_us = ends_us if allowed else until_us
        packed = None if state is None else algorithm.pack(state, until_us, unit)
        are_packed.append(packed is not None)
        if packed is not None:
            assert algorithm.unpack(packed, unit) == (state, until_us)
            for at_us in (now_us, until_us - 1, until_us, until_us + 1):
                assert (packed > algorithm.least(at_us, unit)) is (until_us > at_us)
    assert are_packed[:1] in ([], [True])


@given(ago_us=st.integers(0, 6_000_000), cost=st.integers(1, 7))
def test_a_log_of_one_hit_that_was_packed_is_that_log(ago_us: int, cost: int) -> None:
    instant, bits = START_US - ago_us, sliding_log.COST_BITS
    packed = (instant << bits) + cost
    log, until_us = sliding_log.unpack(packed, LOG.period_us)
    assert (log.hits(), until_us) == ([(instant, cost)], instant + LOG.period_us)
    assert (packed > sliding_log.least(START_US, LOG.period_us)) is (until_us > START_US)

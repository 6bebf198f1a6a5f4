"""The straight ways of windows and logs: where they answer, it is what `judge` with `spend` or `keep` answers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.limits import FixedWindow, Limit, SlidingLog, SlidingWindow
from tests.profiles import quickly

START_US = 1_800_000_000_000_000
LIMITS = [FixedWindow(7, per=3), SlidingWindow(7, per=3), SlidingLog(7, per=3)]


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


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@settings(max_examples=quickly(200))
@given(steps=st.lists(st.tuples(st.integers(-1_000_000, 4_000_000), st.integers(1, 7)), max_size=30))
def test_it_answers_as_judge_with_spend_or_keep(limit: Any, steps: list[tuple[int, int]]) -> None:
    fast_path = limit.algorithm.fast_path(limit.arguments(1, 0, ""))
    state: Any = None
    now_us, until_us = START_US, 0
    for passed_us, cost in steps:
        now_us += passed_us
        if until_us <= now_us:
            state = None
        mine = copy.deepcopy(state)
        expected = the_long_way(limit, state, now_us, cost)
        if mine is not None and (found := fast_path(mine, now_us, cost)) is not None:
            allowed, after, ends_us, facts = found
            assert (allowed, plain(after), ends_us, facts) == (expected[0], plain(expected[1]), *expected[2:])
        if expected[0]:
            _, state, until_us, _ = expected


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_it_answers_for_what_is_usual(limit: Any) -> None:
    fast_path = limit.algorithm.fast_path(limit.arguments(1, 0, ""))
    _, state, _, _ = the_long_way(limit, None, START_US, 1)
    answers = [fast_path(state, START_US + 1, cost) for cost in (1, 7)]
    assert [answer and answer[0] for answer in answers] == [True, False]
    assert fast_path(state, START_US - 1, 1) is None  # time went back

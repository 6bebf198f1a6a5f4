"""The central promise, tried on every interval: in any time t, at most `burst + rate * t` tokens are admitted.

Schedules are random: costs, pauses, waiting with and without an end, places left before and after their turn, and
estimates that are settled. What counts is each hit's net cost, at its turn: tokens that were given back count for
nothing, whenever that was. All arithmetic is in integers, so there is no room for "nearly".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.hits import Action, Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from tests.algorithms.playing import Played, play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import (
    KINDS,
    START_US,
    Lane,
    Step,
    fixed_windows,
    queues,
    sliding_logs,
    sliding_windows,
    slots,
    span,
    steps,
    token_buckets,
)
from tests.profiles import quickly

Admitted = list[tuple[int, int]]
"""The turn of each hit, and what it cost in the end. In order of the turns."""

USUAL: tuple[Action, ...] = ("spend", "spend", "spend", "peek", "give_back", "give_back")


@st.composite
def schedules(draw: st.DrawFn, limits: st.SearchStrategy[Limit], actions: Sequence[Action] = USUAL) -> Schedule:
    """A schedule of one limit, in which time goes on."""
    among = [Lane("lane", [draw(limits)])]
    return among, draw(steps(among, actions=actions, may_go_back=False, most=40))


Schedule = tuple[list[Lane], list[Step]]


def net(played: Iterable[Played]) -> Admitted:
    """What was admitted, less what was given back."""
    costs: dict[str, int] = {}
    turns: dict[str, int] = {}
    for group, now_us, decision in played:
        (hit,) = group.hits
        if group.action == "give_back":
            costs[hit.holder] -= hit.cost
        elif group.action == "spend" and decision.allowed:
            costs[hit.holder] = hit.cost
            turns[hit.holder] = now_us + decision.wait_us
    return sorted((turns[holder], cost) for holder, cost in costs.items() if cost > 0)


def assert_bounded(admitted: Admitted, period_us: int, most: int, rate: int, *, slack_us: int = 0) -> None:
    """In every interval from one turn to another, `most + rate * t` at most. Those intervals are the fullest. By
    `slack_us`, they may be shorter than they should.
    """
    totals = [0, *accumulate(cost for _, cost in admitted)]
    for first, (began_us, _) in enumerate(admitted):
        for last in range(first, len(admitted)):
            ended_us = admitted[last][0]
            spent = totals[last + 1] - totals[first]
            assert spent * period_us <= most * period_us + rate * (ended_us - began_us + slack_us), admitted[
                first : last + 1
            ]


def limit_of(schedule: Schedule) -> Limit:
    return schedule[0][0].limits[0]


@settings(max_examples=quickly(500))
@given(schedule=queues())
def test_a_token_bucket_admits_no_more_than_it_promises_however_many_wait_and_leave(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    admitted = net(play(*schedule, Reference(), refunds_once=True))
    assert_bounded(admitted, limit.period_us, limit.capacity, limit.rate)


@settings(max_examples=quickly(150))
@given(schedule=schedules(token_buckets()))
def test_a_token_bucket_of_any_size_admits_no_more_than_it_promises(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    admitted = net(play(*schedule, Reference(), refunds_once=True))
    assert_bounded(admitted, limit.period_us, limit.capacity, limit.rate)


@settings(max_examples=quickly(150))
@given(schedule=schedules(sliding_windows()))
def test_a_sliding_window_admits_no_more_than_it_promises(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    admitted = net(play(*schedule, Reference(), refunds_once=True))
    assert_bounded(admitted, limit.period_us, limit.rate, limit.rate)


@settings(max_examples=quickly(150))
@given(schedule=schedules(sliding_logs()))
def test_a_sliding_log_never_admits_more_than_its_rate_in_its_period(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    admitted = net(play(*schedule, Reference(), refunds_once=True))
    for began_us, _ in admitted:
        assert sum(cost for turn_us, cost in admitted if began_us <= turn_us < began_us + limit.period_us) <= limit.rate


@settings(max_examples=quickly(150))
@given(schedule=schedules(fixed_windows()))
def test_a_fixed_window_never_admits_more_than_its_rate_in_a_window(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    assert isinstance(limit, FixedWindow)
    windows: dict[int, int] = {}
    for turn_us, cost in net(play(*schedule, Reference(), refunds_once=True)):
        start, _ = limit.window(turn_us)
        windows[start] = windows.get(start, 0) + cost
    assert all(spent <= limit.rate for spent in windows.values())


@settings(max_examples=quickly(150))
@given(schedule=schedules(slots(), ("spend", "spend", "spend", "give_back", "renew", "renew")))
def test_slots_are_never_held_by_more_than_there_are(schedule: Schedule) -> None:
    limit = limit_of(schedule)
    held: dict[str, tuple[int, int]] = {}  # by holder: how many slots, and until when
    for group, now_us, decision in play(*schedule, Reference(), refunds_once=True):
        (hit,) = group.hits
        if group.action == "give_back":
            count, expiry = held[hit.holder]
            held[hit.holder] = count - hit.cost, expiry
        elif decision.allowed:
            held[hit.holder] = hit.cost, now_us + limit.period_us
        assert sum(count for count, expiry in held.values() if expiry > now_us) <= limit.rate


# Not by admitting little


@settings(max_examples=quickly(100))
@given(rate=st.integers(1, 50), period_us=st.integers(1, 1_000), cost=st.integers(1, 20), more=st.integers(1, 20))
def test_who_comes_back_when_told_gets_all_that_a_token_bucket_promises(
    rate: int, period_us: int, cost: int, more: int
) -> None:
    burst = cost + rate // period_us + more  # what is earned in a microsecond fits in beside a hit
    limit = TokenBucket(rate, span(period_us), burst)
    reference = Reference()
    hit = Hit(limit, "key", "name", cost)
    now_us, spent = START_US, 0
    for _ in range(200):
        decision = reference.decide(Group((hit,)), now_us)
        spent += cost if decision else 0
        now_us += decision.retry_after_us
    while reference.decide(Group((hit,)), now_us):
        spent += cost
    # Less than another hit is missing to what is promised.
    assert (spent + cost) * period_us > burst * period_us + rate * (now_us - START_US)


@settings(max_examples=quickly(100))
@given(limit=fixed_windows() | sliding_logs())
def test_who_comes_back_when_told_gets_a_whole_limit_in_each_window(limit: FixedWindow | SlidingLog) -> None:
    reference = Reference()
    hit = Hit(limit, "key", "name", limit.rate)
    now_us, waits_us = START_US, []
    for _ in range(5):
        assert reference.decide(Group((hit,)), now_us)
        denied = reference.decide(Group((hit,)), now_us)
        waits_us.append(denied.retry_after_us)
        now_us += denied.retry_after_us
    if isinstance(limit, FixedWindow):
        assert limit.window(START_US)[0] < now_us - 4 * min(waits_us[1:])
    else:
        assert waits_us == [limit.period_us] * 5


def test_a_queue_gets_every_token_that_is_earned_while_it_waits() -> None:
    limit = TokenBucket(3, span(7), 2)
    reference = Reference()
    turns = [
        START_US + reference.decide(Group((Hit(limit, "key", "name"),), 10_000), START_US).wait_us for _ in range(3_000)
    ]
    assert turns[-1] - START_US == -(-(3_000 - 2) * 7 // 3)
    assert_bounded([(turn, 1) for turn in turns[:200]], 7, 2, 3)


# The instant that a denial names


ALL_KINDS: tuple[Action, ...] = ("spend", "spend", "peek")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=quickly(80))
@given(data=st.data())
def test_a_denied_caller_is_admitted_at_the_instant_it_was_told_and_not_a_microsecond_earlier(
    kind: str, data: st.DataObject
) -> None:
    schedule = data.draw(schedules(KINDS[kind](), (*ALL_KINDS, "take") if kind != "cc" else ALL_KINDS))
    limit = limit_of(schedule)
    reference = Reference()
    now_us = max(played.now_us for played in play(*schedule, reference))
    cost = data.draw(st.integers(1, min(limit.capacity, 10)) | st.just(limit.capacity))
    group = Group((Hit(limit, "key", "lane", cost, "somebody"),), 0, "peek")
    denied = reference.decide(group, now_us)
    if not denied:
        assert not reference.decide(group, now_us + denied.retry_after_us - 1)
        assert reference.decide(group, now_us + denied.retry_after_us)
    else:
        assert denied.retry_after_us == 0


@settings(max_examples=quickly(150))
@given(schedule=queues(), cost=st.integers(1, 8))
def test_leaving_the_queue_never_puts_off_what_the_others_were_told(schedule: Schedule, cost: int) -> None:
    limit = limit_of(schedule)
    reference = Reference()
    now_us = max(played.now_us for played in play(*schedule, reference, refunds_once=True))
    group = Group((Hit(limit, "key", "queue", min(cost, limit.capacity)),), 0, "peek")
    denied = reference.decide(group, now_us)
    assert reference.decide(group, now_us + denied.retry_after_us)


@pytest.mark.parametrize(
    "limit",
    [TokenBucket(3), FixedWindow(3), SlidingWindow(3), SlidingLog(3), Concurrency(3)],
    ids=lambda limit: type(limit).__name__,
)
def test_nothing_that_is_asked_changes_what_can_be_asked_next(limit: Limit) -> None:
    reference = Reference()
    group = Group((Hit(limit, "key", "name", 3, "a"),))
    assert reference.decide(group, START_US)
    peek = Group((Hit(limit, "key", "name", 1, "b"),), 0, "peek")
    first = reference.decide(peek, START_US + 1)
    for _ in range(10):
        assert reference.decide(peek, START_US + 1).facts == first.facts

"""Logs and slots are asked in the midst of being asked, and exceptions strike in it, at each point where the
interpreter lets such in: what comes of it is what one after the other would have come to, and nothing is lost, or held
for ever.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from headgate.algorithms import concurrency, sliding_log
from tests.striking import Point, Struck, code_of, each_point, strike

NOW = 1_800_000_000_000_000
PERIOD = 1_000


class Kept:
    """A state, and what is asked of it, as a store does: it looks once more before it believes a judgement."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.now = NOW
        self.calls = 0


Ask = Callable[[Any], Any]
"""Asks something of what is kept, and returns the answer."""


def outcome(kept: Any, *asked: Ask) -> tuple[list[Any], Any]:
    """What is answered one after the other, and what is left."""
    answers = [ask(kept) for ask in asked]
    return answers, kept.left()


def assert_as_if_one_after_the_other(make: Callable[[], Any], outer: Ask, inner: Ask, module: Any) -> None:
    """Strike `outer` by `inner` at each point."""
    (outer_first, inner_second), left_first = outcome(make(), outer, inner)
    (inner_first, outer_second), left_second = outcome(make(), inner, outer)
    allowed = [(outer_first, inner_second, left_first), (outer_second, inner_first, left_second)]
    for point in each_point():
        kept = make()
        answer, told = struck(point, kept, outer, inner, module)
        if point.place:
            assert (answer, told[0], kept.left()) in allowed, point
            kept.check()


def struck(point: Point, kept: Any, outer: Ask, inner: Ask, module: Any) -> tuple[Any, list[Any]]:
    """What both are answered."""
    told: list[Any] = []
    return point.striking(lambda: outer(kept), code_of(module), lambda: told.append(inner(kept))), told


def assert_whole_after_an_exception(make: Callable[[], Any], outer: Ask, module: Any) -> None:
    """Strike `outer` by an exception at each point."""
    before, after = make(), make()
    outer(after)
    for point in each_point(with_collector=False):
        kept = make()
        with suppress(Struck):
            point.striking(functools.partial(outer, kept), code_of(module), strike)
        kept.check()
        assert kept.left() in (before.left(), after.left()), point


# Logs


class Log(Kept):
    """A log of at most 6."""

    most = 6

    def left(self) -> list[tuple[int, int]]:
        """What is in view, at the latest time that anybody asks."""
        return [hit for hit in self.state.hits() if hit[0] + PERIOD > NOW + 1]

    def check(self) -> None:
        entries = list(self.state.entries)
        assert all(one[0] <= other[0] and one[2] == other[1] for one, other in pairwise(entries))
        assert self.state.total == sum(cost for _, cost in self.state.hits())
        assert sum(cost for _, cost in self.left()) <= self.most


def log(*hits: tuple[int, int]) -> Callable[[], Log]:
    return lambda: Log(sliding_log.State([(NOW + at, cost) for at, cost in hits]))


def hit_straight(cost: int, later: int = 0) -> Ask:
    hit = sliding_log.fast_path((1, Log.most, PERIOD))

    def ask(kept: Log) -> Any:
        kept.calls += 1
        kept.now = now = max(kept.now, NOW + later)
        found = hit(kept.state, now, cost)
        return (found[0], found[3][0] if found[0] else found[3]) if found else hit_the_long_way(cost, later)(kept)

    return ask


def hit_the_long_way(cost: int, later: int = 0) -> Ask:
    def ask(kept: Log) -> Any:
        kept.calls += 1
        kept.now = max(kept.now, NOW + later)
        while True:
            calls = kept.calls
            allowed, judged = sliding_log.judge(kept.state, kept.now, (cost, Log.most, PERIOD), 0)
            spent = sliding_log.spend(judged) if allowed and kept.calls == calls else None
            if not allowed and kept.calls == calls:
                return False, sliding_log.keep(judged)
            if spent and (spent[0] is kept.state or kept.calls == calls):
                kept.state = spent[0]
                return True, spent[2][0]

    return ask


def peek_at_log(later: int = 0) -> Ask:
    def ask(kept: Log) -> Any:
        allowed, judged = sliding_log.judge(kept.state, NOW + later, (1, Log.most, PERIOD), 0)
        return allowed, sliding_log.keep(judged)

    return ask


def refund(at: int, cost: int) -> Ask:
    def ask(kept: Log) -> Any:
        given_back, _, facts = sliding_log.give_back(kept.state, NOW, (cost, Log.most, PERIOD), (NOW + at, cost))
        kept.state.entries = given_back.entries if given_back else sliding_log.State().entries
        return facts[0]

    return ask


LOGS = {
    "little": log((-10, 1)),
    "old and new": log((-PERIOD - 1, 2), (-PERIOD, 1), (1 - PERIOD, 1), (-3, 2)),
    "nearly full": log((-PERIOD, 2), (-9, 2), (-8, 3)),
    "full": log((-9, 2), (-8, 3), (-8, 1)),
    "old": log((-2 * PERIOD, 2), (-PERIOD - 5, 3)),
}
HITS = {"straight": hit_straight, "the long way": hit_the_long_way}


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("way", HITS.values(), ids=HITS)
@pytest.mark.parametrize("cost", [1, 3, 6])
def test_a_log_that_is_asked_in_the_midst_of_a_hit_counts_both(
    make: Callable[[], Log], way: Callable[..., Ask], cost: int
) -> None:
    for inner in (*(hit(more) for hit in HITS.values() for more in (1, 4)), peek_at_log()):
        assert_as_if_one_after_the_other(make, way(cost), inner, sliding_log)
        assert_as_if_one_after_the_other(make, peek_at_log(), inner, sliding_log)
    assert_as_if_one_after_the_other(make, way(cost), peek_at_log(later=1), sliding_log)


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("way", HITS.values(), ids=HITS)
def test_a_log_that_is_asked_a_little_later_in_the_midst_of_a_hit_counts_both(
    make: Callable[[], Log], way: Callable[..., Ask]
) -> None:
    for hit, cost in ((hit_straight, 2), (hit_the_long_way, 4)):
        inner = hit(cost, later=1)
        for point in each_point():
            kept = make()
            answer, told = struck(point, kept, way(2), inner, sliding_log)
            taken = 2 * answer[0] + sum(cost for allowed, _ in told if allowed)
            assert sum(cost for _, cost in kept.left()) == sum(cost for _, cost in make().left()) + taken
            kept.check()


@pytest.mark.parametrize("way", HITS.values(), ids=HITS)
def test_a_log_that_is_given_back_to_in_the_midst_of_a_hit_counts_both(way: Callable[..., Ask]) -> None:
    for cost in (1, 3):
        assert_as_if_one_after_the_other(LOGS["full"], way(cost), refund(-8, 3), sliding_log)
        assert_as_if_one_after_the_other(LOGS["nearly full"], way(cost), refund(-9, 2), sliding_log)


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("way", HITS.values(), ids=HITS)
def test_an_exception_in_the_midst_of_a_hit_leaves_a_log_whole(
    make: Callable[[], Log], way: Callable[..., Ask]
) -> None:
    for cost in (1, 3, 6):
        assert_whole_after_an_exception(make, way(cost), sliding_log)
    assert_whole_after_an_exception(make, peek_at_log(), sliding_log)


@pytest.mark.parametrize("make", LOGS.values(), ids=LOGS)
def test_what_is_given_back_to_a_log_or_charged_makes_a_new_one(make: Callable[[], Log]) -> None:
    kept = make()
    entries = list(kept.state.entries)
    for receipt in kept.state.hits():
        sliding_log.give_back(kept.state, NOW, (receipt[1], 6, PERIOD), receipt)
        sliding_log.take(kept.state, NOW, (5, 6, PERIOD))
        sliding_log.judge(kept.state, NOW - 5 * PERIOD, (5, 6, PERIOD), 0)
        assert list(kept.state.entries) == entries


# Slots

TTL = 1_000


class Slots(Kept):
    """Slots for at most 4."""

    most = 4

    def left(self) -> list[tuple[str, int]]:
        """What whoever comes next finds."""
        return sorted(self.found().slots.items())

    def found(self) -> concurrency.State:
        return concurrency.settle(copy.deepcopy(self.state), NOW, TTL)[0]

    def check(self) -> None:
        order = self.state.order
        assert order == sorted(order)
        assert {(expiry, slot) for slot, expiry in self.state.slots.items()} <= set(order)
        assert len(self.left()) <= self.most
        held = self.found()
        later = concurrency.judge(held, NOW + TTL, (1, self.most, TTL, "later"), 0)
        assert (later[0], concurrency.keep(later[1])) == (True, (0, 0, 0))  # nothing is held for ever
        assert not held.slots
        assert not held.order


def slots(**expiries: int) -> Callable[[], Slots]:
    def make() -> Slots:
        state = concurrency.State()
        for holder, after in expiries.items():
            assert state.put({f"{holder}:1": NOW + after}, state.changes)
        return Slots(state)

    return make


def arguments(holder: str, cost: int) -> tuple[int, int, int, str]:
    return cost, Slots.most, TTL, holder


def hold(holder: str, cost: int = 1) -> Ask:
    def ask(kept: Slots) -> Any:
        while True:
            allowed, judged = concurrency.judge(kept.state, NOW, arguments(holder, cost), 0)
            if not allowed:
                return False, concurrency.keep(judged)
            spent = concurrency.spend(judged)
            if spent:
                return True, spent[2]

    return ask


def release(holder: str, cost: int = 1) -> Ask:
    return lambda kept: concurrency.give_back(kept.state, NOW, arguments(holder, cost), None)[2]


def renew(holder: str, cost: int = 1) -> Ask:
    def ask(kept: Slots) -> Any:
        allowed, (_, _, facts) = concurrency.renew(kept.state, NOW, arguments(holder, cost))
        return allowed, facts

    return ask


def look(kept: Slots) -> Any:
    return concurrency.keep(concurrency.judge(kept.state, NOW, arguments("x", 1), 0)[1])


SLOTS = {
    "none": slots(),
    "some": slots(a=10, b=20),
    "expired": slots(a=-10, b=0, c=10),
    "nearly full": slots(a=5, b=10, c=10),
    "full": slots(a=-5, b=10, c=10, d=20, e=999),
    "too late": slots(**{"a": 10, "c0ffee.1000": 5_000, "b": 6_000 - 5_000}),
}
ASKED: dict[str, Ask] = {
    "hold": hold("n"),
    "hold two": hold("n", 2),
    "hold again": hold("b"),
    "release": release("b"),
    "release two": release("a", 2),
    "renew": renew("b"),
    "renew two": renew("n", 2),
    "look": look,
}
INNER = {**ASKED, "hold": hold("m"), "hold two": hold("m", 2)}


@pytest.mark.parametrize("make", SLOTS.values(), ids=SLOTS)
@pytest.mark.parametrize("outer", ASKED.values(), ids=ASKED)
def test_slots_that_are_asked_for_in_the_midst_of_being_asked_for_are_held_by_both(
    make: Callable[[], Slots], outer: Ask
) -> None:
    for inner in INNER.values():
        assert_as_if_one_after_the_other(make, outer, inner, concurrency)


@pytest.mark.parametrize("make", SLOTS.values(), ids=SLOTS)
@pytest.mark.parametrize("outer", ASKED.values(), ids=ASKED)
def test_an_exception_in_the_midst_leaves_no_slot_held_for_ever(make: Callable[[], Slots], outer: Ask) -> None:
    assert_whole_after_an_exception(make, outer, concurrency)

"""What comes of two stores that have both been used, when one is copied to the other: nobody is admitted whom either of
them would have denied.
"""

from __future__ import annotations

import random

import pytest

from headgate.algorithms import AnyAlgorithm
from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket
from headgate.plans.merging import to_keep
from headgate.stores.memory import MemoryStore
from headgate.testing.contract.asking import give_back

PERIOD = 60
LIMITS: list[tuple[Limit, ...]] = [
    (TokenBucket(5, per=PERIOD, burst=5),),
    (TokenBucket(7, per=PERIOD, burst=3),),
    (FixedWindow(5, per=PERIOD),),
    (FixedWindow(5, per="day"),),
    (SlidingWindow(5, per=PERIOD),),
    (SlidingLog(5, per=PERIOD),),
    (Concurrency(5, ttl=PERIOD),),
    (FixedWindow(2, per=PERIOD), Penalty(3, PERIOD, block=PERIOD)),
]


def group_of(limits: tuple[Limit, ...], cost: int, wait_us: int = 0, holder: str = "") -> Group:
    return Group(tuple(Hit(limit, "k", limit.code, cost, holder) for limit in limits), wait_us)


def use(store: MemoryStore, limits: tuple[Limit, ...], chance: random.Random, clock: ManualClock) -> None:
    """Ask for something a few times, and give some of it back, while time passes."""
    spent: list[Decision] = []
    for _ in range(chance.randrange(12)):
        clock.advance(microseconds=chance.choice((0, 1, 1_000_000, chance.randrange(PERIOD * 1_000_000))))
        wait_us = chance.choice((0, 0, PERIOD * 1_000_000)) if type(limits[0]) is TokenBucket else 0
        if spent and chance.random() < 0.25:
            store.decide([give_back(spent.pop(chance.randrange(len(spent))))])
            continue
        (decision,) = store.decide([group_of(limits, chance.randrange(4), wait_us, f"{chance.randrange(6)}")])
        if decision.allowed and len(limits) == 1:
            spent.append(decision)


def answers(store: MemoryStore, limits: tuple[Limit, ...]) -> list[tuple[bool, int]]:
    """Whether each cost would be admitted now, and after how long."""
    asked = [group_of(limits, cost, holder=f"new {cost}")._replace(action="peek") for cost in range(1, 6)]
    return [(decision.allowed, decision.retry_after_us) for decision in store.decide(asked)]


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: " and ".join(map(str, limits)))
def test_after_a_merge_nobody_is_admitted_whom_either_store_would_deny(limits: tuple[Limit, ...]) -> None:
    for seed in range(120):
        chance = random.Random(seed)  # a schedule, and no secret
        clock = ManualClock()
        one, other = MemoryStore(clock), MemoryStore(clock)
        for _ in range(3):
            use(one, limits, chance, clock)
            use(other, limits, chance, clock)
            if chance.random() < 0.2:
                other.restore(list(one.scan()))
        merged = MemoryStore(clock)
        merged.restore(list(one.scan()))
        merged.restore(list(other.scan()))
        for _ in range(8):
            told = zip(*(answers(store, limits) for store in (merged, one, other)), strict=True)
            for (is_admitted, after_us), (in_one, after_one_us), (in_other, after_other_us) in told:
                assert not is_admitted or (in_one and in_other), seed
                assert after_us >= max(after_one_us, after_other_us) or type(limits[0]) is SlidingWindow, seed
            clock.advance(microseconds=chance.randrange(PERIOD * 500_000))


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: " and ".join(map(str, limits)))
def test_merged_once_more_nothing_is_written(limits: tuple[Limit, ...]) -> None:
    for seed in range(40):
        chance = random.Random(seed)  # a schedule, and no secret
        clock = ManualClock()
        one, other = MemoryStore(clock), MemoryStore(clock)
        for store in (one, other):
            use(store, limits, chance, clock)
        entries = list(one.scan())
        other.restore(entries)
        assert other.restore(entries) == 0, seed
        assert other.restore(list(other.scan())) == 0, seed


def peeked(store: MemoryStore, limit: Limit) -> int:
    """How much may still be spent."""
    count: int = store.decide([group_of((limit,), 1)._replace(action="peek")])[0].remaining
    return count


@pytest.mark.parametrize("spent", [(2, 3), (3, 2)])
def test_of_windows_that_tie_the_greater_count_is_kept(spent: tuple[int, int]) -> None:
    clock = ManualClock()
    for limit in (FixedWindow(5, per=PERIOD), SlidingWindow(5, per=PERIOD)):
        one, other = MemoryStore(clock), MemoryStore(clock)
        for store, cost in zip((one, other), spent, strict=True):
            store.decide([group_of((limit,), cost)])
        other.restore(list(one.scan()))
        assert peeked(other, limit) == 2


def test_a_window_that_is_over_counts_no_more() -> None:
    """It may be told a little late: a server keeps it to the millisecond."""
    for limit in (FixedWindow(5, per=PERIOD), SlidingWindow(5, per=PERIOD)):
        period_us = PERIOD * 1_000_000
        algorithm: AnyAlgorithm = limit.algorithm
        old = algorithm.dump((10 * period_us, 5, 0)[: 2 if limit.code == "fw" else 3])
        spans = 1 if limit.code == "fw" else 2
        start_us = (10 + spans) * period_us
        new = algorithm.dump((start_us, 1, 0)[: 2 if limit.code == "fw" else 3])
        kept = new, start_us + spans * period_us
        assert to_keep(limit.code, "k", (old, start_us + 999), kept) is None
        assert to_keep(limit.code, "k", kept, (old, start_us + 999)) == kept


def test_hits_and_slots_of_both_stores_are_kept_and_those_of_both_once() -> None:
    clock = ManualClock()
    for limit in (SlidingLog(9, per=PERIOD), Concurrency(9, ttl=PERIOD)):
        one, other = MemoryStore(clock), MemoryStore(clock)
        one.decide([group_of((limit,), 2, holder="before")])
        other.restore(list(one.scan()))
        clock.advance(1)
        one.decide([group_of((limit,), 1, holder="one")])
        clock.advance(1)
        other.decide([group_of((limit,), 3, holder="other")])
        other.restore(list(one.scan()))
        assert peeked(other, limit) == 3


def test_a_block_is_not_lifted_by_denials_that_are_counted_for_longer() -> None:
    limits = FixedWindow(1, per=PERIOD), Penalty(2, 60 * PERIOD, block=PERIOD)
    clock = ManualClock()
    blocked, counting = MemoryStore(clock), MemoryStore(clock)
    for store, times in ((blocked, 3), (counting, 2)):
        store.decide([group_of(limits, 1)] * times)
    for source, target in ((counting, blocked), (blocked, counting)):
        target.restore(list(source.scan()))
        assert [entry.text for entry in target.scan() if entry.code == "pn"] == [
            f"1 {clock() + PERIOD * 1_000_000}",
        ]

"""The memory store: bounded, tidy, safe to share between threads; and forgetting changes no decision."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import (
    Concurrency,
    Decision,
    FixedWindow,
    Limit,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from headgate.errors import InvalidUse
from headgate.hits import Action, Group, Hit
from headgate.stores import Store
from tests.algorithms.playing import Played, play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import KINDS, Lane, Step, lanes, steps
from tests.profiles import quickly

LIMITS = [TokenBucket(3, per=60), FixedWindow(3, per=60), SlidingWindow(3, per=60), SlidingLog(3, per=60)]
ALL_KINDS = pytest.mark.parametrize("limit", [*LIMITS, Concurrency(3, ttl=60)], ids=str)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def spend(limit: Limit, key: str, cost: int = 1, name: str = "name") -> Group:
    return Group((Hit(limit, key, name, cost, f"holder of {key}"),))


def peek(limit: Limit, key: str) -> Group:
    return spend(limit, key)._replace(action="peek")


# Size


@ALL_KINDS
def test_it_never_holds_more_than_it_may(clock: ManualClock, limit: Limit) -> None:
    store = MemoryStore(clock, max_entries=100)
    for number in range(1_000):
        assert store.decide([spend(limit, f"{number}")])[0]
        assert len(store) <= 100
    assert len(store) == 100
    assert store.evicted == 900


def test_for_want_of_room_it_forgets_the_debt_that_ends_soonest(clock: ManualClock) -> None:
    limit = TokenBucket(100, per=60)
    for smallest in range(8):
        store = MemoryStore(clock, max_entries=8)
        for number in range(8):
            store.decide([spend(limit, f"{number}", cost=1 if number == smallest else 10 + number)])
        assert store.evicted == 0
        store.decide([spend(limit, "another", cost=5)])
        assert store.evicted == 1
        left = [store.decide([peek(limit, f"{number}")])[0].remaining for number in range(8)]
        assert left == [100 if number == smallest else 90 - number for number in range(8)]


def test_it_forgets_what_is_over_before_what_is_owed(clock: ManualClock) -> None:
    store = MemoryStore(clock, max_entries=8)
    for number in range(8):
        store.decide([spend(TokenBucket(1, per=1 if number % 2 else 60), f"{number}")])
    clock.advance(seconds=1)
    for number in range(4):
        store.decide([spend(TokenBucket(1, per=30), f"another {number}")])
    assert store.evicted == 0
    assert len(store) == 8
    assert not any(store.decide([peek(TokenBucket(1, per=60), f"{number}")])[0] for number in range(0, 8, 2))


def test_one_entry_is_enough_to_work_with(clock: ManualClock) -> None:
    store = MemoryStore(clock, max_entries=1)
    limit = TokenBucket(1, per=60)
    assert [bool(decision) for decision in store.decide([spend(limit, "a"), spend(limit, "a")])] == [True, False]
    assert store.decide([spend(limit, "b")])[0]
    assert not store.decide([spend(limit, "b")])[0]
    assert store.decide([spend(limit, "a")])[0]
    assert (len(store), store.evicted) == (1, 2)


def test_a_store_without_room_for_anything_cannot_be_made() -> None:
    with pytest.raises(InvalidUse, match="max_entries must be at least 1, not 0"):
        MemoryStore(max_entries=0)


@ALL_KINDS
def test_asking_again_takes_no_more_room(clock: ManualClock, limit: Limit) -> None:
    store = MemoryStore(clock)
    for _ in range(50):
        store.decide([spend(limit, "key"), peek(limit, "key"), peek(limit, "another")])
        clock.advance(seconds=7)
    assert len(store) == 1


@ALL_KINDS
def test_a_group_that_was_denied_takes_no_room(clock: ManualClock, limit: Limit) -> None:
    store = MemoryStore(clock)
    store.decide([spend(limit, "full", cost=3)])
    (full,), (other,) = spend(limit, "full").hits, spend(limit, "other").hits
    assert not store.decide([Group((other, full._replace(holder="b")))])[0]
    assert len(store) == 1


# Tidiness


def test_a_flood_of_keys_pays_for_its_own_tidying(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    limit = TokenBucket(1, per=1)
    largest = 0
    for number in range(20_000):
        store.decide([spend(limit, f"{number}")])
        clock.advance(microseconds=10_000)  # a hundred keys owe something at a time
        largest = max(largest, len(store))
    assert largest <= 201
    assert store.evicted == 0


def test_a_flood_that_is_over_is_gone_soon_after(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    for number in range(1_000):
        store.decide([spend(TokenBucket(1, per=1), f"{number}")])
    assert len(store) == 1_000
    clock.advance(seconds=1)
    for number in range(1_000):
        store.decide([spend(TokenBucket(1, per=1), f"another {number}")])
    assert len(store) == 1_000
    assert store.evicted == 0


@ALL_KINDS
def test_what_is_over_is_dropped_when_the_sweep_comes_by(clock: ManualClock, limit: Limit) -> None:
    store = MemoryStore(clock)
    decision = store.decide([spend(limit, "key")])[0]
    clock.set(decision.now_us + decision.reset_after_us - 1)
    store.decide([spend(limit, "another")])
    assert len(store) == 2
    clock.advance(microseconds=1)
    store.decide([spend(limit, "a third")])
    assert len(store) < 3
    assert store.decide([peek(limit, "key")])[0].remaining == 3


@pytest.mark.parametrize("action", ["give_back", "forget"])
@ALL_KINDS
def test_what_was_returned_or_forgotten_is_dropped_too(clock: ManualClock, limit: Limit, action: Action) -> None:
    store = MemoryStore(clock)
    (facts,) = store.decide([spend(limit, "key")])[0].facts
    (hit,) = spend(limit, "key").hits
    store.decide([Group((hit._replace(receipt=limit.receipt(facts, 1)),), 0, action)])
    store.decide([spend(limit, "another")])
    assert len(store) == 1


def test_an_entry_that_was_forgotten_can_be_used_again(clock: ManualClock) -> None:
    store = MemoryStore(clock, max_entries=4)
    limit = TokenBucket(1, per=60)
    for _ in range(20):
        assert store.decide([spend(limit, "key")])[0]
        assert not store.decide([spend(limit, "key")])[0]
        store.decide([spend(limit, "key")._replace(action="forget")])
    assert (len(store), store.evicted) == (1, 0)


def test_closing_forgets_everything_and_limiters_go_on_from_there(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    limiter = Limiter("1/minute", store=store)
    assert [bool(limiter.try_acquire("key")) for _ in range(3)] == [True, False, False]
    store.close()
    assert len(store) == 0
    assert [bool(limiter.try_acquire("key")) for _ in range(3)] == [True, False, False]
    assert len(store) == 1
    assert repr(store) == "<MemoryStore of 1 entries>"


def test_a_log_that_was_looked_at_with_a_shorter_period_goes_on(clock: ManualClock) -> None:
    limiter = Limiter("sliding-log 5/minute", store=MemoryStore(clock), name="name")
    limiter.try_acquire("k")
    clock.advance(seconds=2)
    limiter.peek("k", limit="sliding-log 5/second")
    assert limiter.try_acquire("k")


@pytest.mark.parametrize(
    ("limit", "another"),
    [(TokenBucket(1, per=61), TokenBucket(7, per=60)), (FixedWindow(1, per=3_600), FixedWindow(7, per=1_800))],
    ids=["token-bucket", "fixed-window"],
)
def test_limiters_of_one_name_share_their_counts_whatever_units_they_count_in(limit: Limit, another: Limit) -> None:
    store = MemoryStore(ManualClock())
    one, other = Limiter(limit, store=store, name="name"), Limiter(another, store=store, name="name")
    assert one.try_acquire("k")
    assert other.peek("k").remaining < 7
    assert not one.try_acquire("k")


@ALL_KINDS
def test_names_that_come_and_go_leave_nothing_behind(clock: ManualClock, limit: Limit) -> None:
    store = MemoryStore(clock, max_entries=10)
    for number in range(2_000):
        limiter = Limiter(limit, store=store, name=f"tenant {number}")
        assert limiter.try_acquire("k")
        assert limiter.peek("k", 0).remaining == 2
    assert len(store) == 10
    assert len(store._tables.by_owner) <= 128  # and not 2,000


def test_a_name_is_kept_for_as_long_as_something_is_owed_under_it(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    assert Limiter("1/minute", store=store, name="tenant").try_acquire("k")
    gc.collect()
    assert not Limiter("1/minute", store=store, name="tenant").try_acquire("k")


def test_it_is_a_store() -> None:
    assert isinstance(MemoryStore(), Store)


# Forgetting changes nothing


USUAL: tuple[Action, ...] = ("spend", "spend", "spend", "peek", "give_back", "take", "renew", "forget")


@st.composite
def schedules(draw: st.DrawFn, most_limits: int = 1) -> tuple[list[Lane], list[Step]]:
    among = draw(lanes(kinds=list(KINDS), most_limits=most_limits))
    return among, draw(steps(among, actions=USUAL, may_go_back=False))


@settings(max_examples=quickly(150))
@given(schedule=schedules(), strangers=st.integers(0, 3))
def test_it_decides_as_a_store_that_forgets_nothing(schedule: tuple[list[Lane], list[Step]], strangers: int) -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    for number, (group, now_us, expected) in enumerate(play(*schedule, Reference(), repeats=True)):
        clock.set(now_us)
        decision = store.decide([group])[0]
        assert (decision.allowed, decision.facts, decision.now_us) == (expected.allowed, expected.facts, now_us)
        for stranger in range(strangers):  # whose coming moves the sweep on
            store.decide([spend(TokenBucket(1, per=1), f"{number} {stranger}")])


@settings(max_examples=quickly(100))
@given(schedule=schedules(most_limits=3))
def test_a_single_hit_is_decided_as_a_batch_of_one(schedule: tuple[list[Lane], list[Step]]) -> None:
    """Also where limits of one name come and go: who counts in other units is not counted afresh."""
    clock = ManualClock()
    store, batches = MemoryStore(clock), MemoryStore(clock)
    ways: dict[tuple[str, Limit], Callable[[str, int], Decision | None]] = {}

    def decide(played: Played) -> Decision:
        group, now_us, _ = played
        clock.set(now_us)
        limit, key, name, cost, *_ = group.hits[0]
        if not group.is_plain or cost == 0 or isinstance(limit, Concurrency):
            return store.decide([group])[0]
        if (name, limit) not in ways:
            ways[name, limit] = store.single(limit, name)
        decision = ways[name, limit](key, cost)
        assert decision is not None
        return decision

    for played in play(*schedule, Reference(), repeats=True):
        decision, expected = decide(played), batches.decide([played.group])[0]
        assert (decision.allowed, decision.facts, decision.now_us) == (expected.allowed, expected.facts, played.now_us)
        assert [hit[:4] for hit in decision.group.hits] == [hit[:4] for hit in expected.group.hits]
        assert decision.retry_after_us == expected.retry_after_us
        assert decision.remaining == expected.remaining


# Threads


def hammer(times: int, work: Callable[[int], bool]) -> int:
    """Let eight threads begin at once; how often did the work succeed?"""
    barrier = threading.Barrier(8)

    def run(thread: int) -> int:
        barrier.wait()
        return sum(work(thread * times + number) for number in range(times))

    with ThreadPoolExecutor(8) as threads:
        return sum(threads.map(run, range(8)))


@pytest.mark.parametrize(
    "limit",
    [TokenBucket(777, per=60), FixedWindow(777, per=60), SlidingWindow(777, per=60), SlidingLog(777, per=60)],
    ids=str,
)
def test_eight_threads_get_exactly_what_the_limit_says(clock: ManualClock, limit: Limit) -> None:
    limiter = Limiter(limit, store=MemoryStore(clock))
    assert hammer(200, lambda _: bool(limiter.try_acquire("key"))) == 777


def test_eight_threads_get_exactly_the_slots_that_there_are(clock: ManualClock) -> None:
    limiter = Limiter(Concurrency(77), store=MemoryStore(clock))
    assert hammer(50, lambda _: bool(limiter.try_acquire("key"))) == 77


def test_eight_threads_that_spend_and_return_leave_everything_as_it_was(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    limiter = Limiter(SlidingLog(4, per=60), store=store)

    def work(_: int) -> bool:
        decision = limiter.try_acquire("key")
        limiter.refund(decision)
        return bool(decision)

    assert hammer(200, work) >= 200
    assert limiter.peek("key").remaining == 4


def test_groups_of_eight_threads_are_spent_whole_or_not_at_all(clock: ManualClock) -> None:
    store = MemoryStore(clock)
    narrow, wide = TokenBucket(500, per=60), FixedWindow(400, per=60)

    def work(number: int) -> bool:
        hits = Hit(narrow, "key", "narrow"), Hit(wide, f"{number % 2}", "wide")
        return bool(store.decide([Group(hits)])[0])

    assert hammer(100, work) == 500
    left = [store.decide([spend(wide, key, 0, "wide")])[0].remaining for key in "01"]
    assert sum(left) == 2 * 400 - 500


def test_eight_threads_may_flood_it_with_keys(clock: ManualClock) -> None:
    store = MemoryStore(clock, max_entries=50)
    limiter = Limiter("1/minute", store=store)
    assert hammer(200, lambda number: bool(limiter.try_acquire(f"{number}"))) == 1_600
    assert len(store) == 50
    assert store.evicted == 1_550

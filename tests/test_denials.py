"""The memory of denials: it never denies what the store would have admitted, and forgets in time."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import AcquireTimeout, AsyncLimiter, Decision, Limiter, ManualClock
from headgate.denials import MAX_DENIALS, MAX_KEPT, DenialMemory
from headgate.hits import Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores.memory import MemoryStore
from headgate.stores.redis import RedisStore
from tests.profiles import quickly
from tests.servers import own_valkey

PATIENT = 20.0
LIMITS: list[Limit] = [
    TokenBucket(7, per=60, burst=3),
    TokenBucket(1, per=40, burst=2),
    FixedWindow(3, per=60),
    FixedWindow(3, per="day", tz="Europe/Berlin"),
    SlidingWindow(5, per=60),
    SlidingLog(4, per=60),
]
"""Debts of a minute and more: the server's own clock, which runs while the test's stands, does not end them."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def stores(valkey_url: str, prefix: str, clock: ManualClock) -> Iterator[list[RedisStore]]:
    """Three that remember, as three processes would, and one that does not."""
    made = [RedisStore(valkey_url, prefix=prefix, timeout=PATIENT) for _ in range(3)]
    made.append(RedisStore(valkey_url, prefix=prefix, timeout=PATIENT, remember_denials=0))
    for store in made:
        store.use_clock(clock)
    yield made
    for store in made:
        store.close()


def would_admit(truth: RedisStore, group: Group) -> bool:
    return truth.decide([group._replace(action="peek")])[0].allowed


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1_000, 59_999, 60_000, 999_999, 1_000_000, 8_571_428, 20_000_000]),  # later by us
        st.integers(0, 2),  # which store
        st.lists(st.integers(0, len(LIMITS) - 1), min_size=1, max_size=2, unique=True),  # which limits
        st.integers(1, 3),  # cost
        st.sampled_from(["spend"] * 8 + ["give_back", "forget"]),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=quickly(40))
@given(steps=STEPS)
def test_what_is_denied_from_memory_the_store_would_have_denied(
    stores: list[RedisStore], clock: ManualClock, steps: list[Any]
) -> None:
    """Random costs, limits and groups of two, asked by three who do not know of each other, while time passes.

    What is given back goes through the store that remembers, as its promise says.
    """
    *remembering, truth = stores
    truth.decide([Group((Hit(limit, "k", f"n{index}", 0),), 0, "forget") for index, limit in enumerate(LIMITS)])
    for store in remembering:
        assert store._learnt.denials is not None
        store._learnt.denials.clear()
    spent: list[Hit] = []
    for later_us, who, which, cost, action in steps:
        clock.advance(microseconds=later_us)
        hits = tuple(Hit(LIMITS[index], "k", f"n{index}", min(cost, LIMITS[index].capacity)) for index in which)
        if action == "spend":
            group = Group(hits)
            is_admitted = would_admit(truth, group)
            (decision,) = remembering[who].decide([group])
            single = remembering[who].single_async(hits[0].limit, hits[0].name)("k", hits[0].cost)
            if single is not None:
                assert not would_admit(truth, Group(hits[:1]))
            assert decision.allowed == is_admitted, (decision, steps)
            if decision.allowed:
                spent += [
                    hit._replace(receipt=hit.limit.receipt(facts, hit.cost))
                    for hit, facts in zip(hits, decision.facts, strict=True)
                ]
        elif action == "forget" or spent:
            one = hits[0] if action == "forget" else spent.pop()
            for store in remembering:  # all of them have to hear of it
                assert store._learnt.denials is not None
                store._learnt.denials.forget([Group((one,), 0, action)])
            remembering[who].decide([Group((one,), 0, action)])


@settings(max_examples=quickly(60))
@given(
    which=st.lists(st.integers(0, len(LIMITS) - 1), min_size=1, max_size=4, unique=True),
    full=st.sets(st.integers(0, len(LIMITS) - 1), min_size=1),
    later_us=st.lists(st.sampled_from([0, 1, 1_000, 250_000, 400_000]), min_size=1, max_size=3),
)
def test_a_denial_from_memory_says_when_to_come_back_as_the_store_does(
    stores: list[RedisStore], clock: ManualClock, which: list[int], full: set[int], later_us: list[int]
) -> None:
    remembering, *_, truth = stores
    hits = tuple(Hit(LIMITS[index], "k", f"n{index}", 1) for index in which)
    truth.decide([Group((hit,), 0, "forget") for hit in hits])
    assert remembering._learnt.denials is not None
    remembering._learnt.denials.clear()
    truth.decide([Group((hit._replace(cost=hit.limit.capacity),)) for hit in hits if int(hit.name[1:]) in full])
    (first,) = remembering.decide([Group(hits)])
    assert not full & set(which) or not first.allowed
    for passed_us in later_us if not first.allowed else []:
        clock.advance(microseconds=passed_us)
        (again,) = remembering.decide([Group(hits)])
        (told,) = truth.decide([Group(hits, 0, "peek")])
        assert (again.retry_after_us, again.binding) == (told.retry_after_us, told.binding)


def _serve(pipe: Any, url: str, prefix: str) -> None:
    """A process that asks what it is told to ask, at the time that it is told."""
    clock = ManualClock()
    store = RedisStore(url, prefix=prefix, timeout=PATIENT)
    store.use_clock(clock)
    limiters = {str(limit): Limiter(limit, store=store, on_outage="raise") for limit in LIMITS}
    while (order := pipe.recv()) is not None:
        now_us, limit, cost = order
        clock.set(now_us)
        decision = limiters[limit].try_acquire("k", cost)
        pipe.send((decision.allowed, decision.source, decision.retry_after_us))
    store.close()


def test_several_processes_deny_from_memory_only_what_the_store_would_have_denied(
    valkey_url: str, prefix: str, clock: ManualClock, stores: list[RedisStore]
) -> None:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(3):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, valkey_url, prefix), daemon=True))
        processes[-1].start()
        pipes.append(ours)
    state, from_memory = 1, 0
    for _ in range(600):
        state = state * 1_103_515_245 + 12_345 & 0x7FFF_FFFF  # a linear congruential generator, as in C's rand
        who, which, cost, pace = state >> 8 & 3, state >> 10 & 7, (state >> 13 & 1) + 1, state >> 16 & 15
        limit = LIMITS[which % len(LIMITS)]
        clock.advance(microseconds=[0, 0, 0, 1, 60, 60_000, 400_000, 1_000_000][pace & 7])
        expected = would_admit(stores[3], Group((Hit(limit, "k", str(limit), cost),)))
        pipe = pipes[who % 3]
        pipe.send((clock(), str(limit), cost))
        allowed, source, _ = pipe.recv()
        assert allowed == expected, (source, limit, cost)
        from_memory += source == "memory_of_denial"
    assert from_memory > 50
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(PATIENT)


# One denial


def denied(
    memory: DenialMemory, limit: Limit, key: str = "k", cost: int = 1, sent_us: int | None = None, name: str = "n"
) -> Decision:
    """Teach it that a key's tokens are spent, as of now."""
    group = Group((Hit(limit, key, name, limit.capacity),))
    clock = memory.clock
    spent = limit.algorithm.spend(
        limit.algorithm.judge(None, clock(), limit.arguments(group.hits[0].cost, clock(), ""), 0)[1]
    )
    assert spent
    allowed, found = limit.algorithm.judge(spent[0], clock(), limit.arguments(cost, clock(), ""), 0)
    assert not allowed
    decision = Decision(Group((Hit(limit, key, name, cost),)), clock(), False, (limit.algorithm.keep(found),))
    memory.learn(decision, clock() if sent_us is None else sent_us, memory.forgettings)
    return decision


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_denial_is_repeated_until_it_is_over_and_counts_down(limit: Limit, clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    first = denied(memory, limit)
    recall = memory.single(limit, "n")
    wait_us = min(first.retry_after_us, 60_000_000)
    for passed_us in (0, 1, wait_us // 2, wait_us - 1):
        clock.set(first.now_us + passed_us)
        told = recall("k", 1)
        assert told is not None
        assert not told
        assert told.source == "memory_of_denial"
        assert (told.key, told.binding, told.cost, told.limit) == ("k", "n", 1, limit.capacity)
        assert told.retry_after_us == first.retry_after_us - passed_us
        assert told.now_us == clock()
        assert int(told.headers()["Retry-After"]) >= 1
        (grouped,) = [memory.recall(Group((Hit(limit, "k", "n", 1), Hit(limit, "other", "m", 1))))]
        assert grouped is not None
        assert (grouped.binding, grouped.retry_after_us) == ("n", told.retry_after_us)
    clock.set(first.now_us + wait_us)
    assert recall("k", 1) is None


def test_a_denial_counts_from_the_sending_of_the_question(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    limit = TokenBucket(60, per=60, burst=1)
    denied(memory, limit, sent_us=clock() - 400_000)
    recall = memory.single(limit, "n")
    clock.advance(microseconds=599_999)
    told = recall("k", 1)
    assert told is not None
    assert told.retry_after_us == 400_001  # come back then and it is sure to be over
    clock.advance(microseconds=1)
    assert recall("k", 1) is None


def test_a_denial_is_remembered_for_no_longer_than_it_may(clock: ManualClock) -> None:
    memory = DenialMemory(1_000_000, clock)
    limit = TokenBucket(1, per=3600)
    denied(memory, limit)
    recall = memory.single(limit, "n")
    clock.advance(microseconds=999_999)
    assert recall("k", 1) is not None
    clock.advance(microseconds=1)
    assert recall("k", 1) is None


def test_larger_costs_are_denied_too_and_smaller_ones_asked_for(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    limit = TokenBucket(10, per=10)
    denied(memory, limit, cost=3)
    recall = memory.single(limit, "n")
    assert recall("k", 2) is None
    told = recall("k", 5)
    assert told is not None
    assert told.retry_after == 5
    assert recall("k", 11) is None  # never, which is not ours to say
    assert memory.single(TokenBucket(20, per=10), "n")("k", 3) is None
    assert recall("other", 3) is None
    log = SlidingLog(4, per=60)
    denied(memory, log, cost=1)
    assert memory.single(log, "n")("k", 2) is None  # when two are free, the log was not asked


def test_what_is_no_plain_key_or_cost_is_left_alone(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    denied(memory, LIMITS[0])
    recall = memory.single(LIMITS[0], "n")
    for key, cost in ([None, 1], [{"k": "k"}, 1], ["k", True], ["k", 1.0], ["k", None]):
        assert recall(key, cost) is None


def test_waiters_peeks_and_slots_are_always_asked_for(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    denied(memory, LIMITS[0])
    hit = Hit(LIMITS[0], "k", "n", 1)
    assert memory.recall(Group((hit,), 0, "peek")) is None
    assert memory.recall(Group((hit,), 5)) is None
    slots = Hit(Concurrency(1), "k", "n", 1)
    memory.learn(Decision(Group((slots,)), clock(), False, ((1, clock() + 9, clock() + 9),)), clock(), 0)
    assert memory.recall(Group((slots,))) is None


def test_what_was_asked_before_something_was_given_back_teaches_nothing(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    hit = Hit(LIMITS[0], "k", "n", 1)
    decision = denied(memory, LIMITS[0])
    memory.forget([Group((hit,), 0, "give_back")])
    memory.learn(decision, clock(), 0)
    assert memory.recall(Group((hit,))) is None


def test_what_another_thread_gives_back_while_a_denial_is_learnt_is_heard_of(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = DenialMemory(60_000_000, clock)
    hit = Hit(LIMITS[0], "k", "n", 1)
    remember = memory._remember

    def late(*told: Any) -> None:
        memory.forget([Group((hit,), 0, "give_back")])  # which came between our looking and our writing
        remember(*told)

    monkeypatch.setattr(memory, "_remember", late)
    memory.learn(denied(memory, LIMITS[0]), clock(), memory.forgettings)
    assert memory.recall(Group((hit,))) is None


def test_a_flood_of_denied_keys_takes_bounded_room(clock: ManualClock) -> None:
    memory = DenialMemory(60_000_000, clock)
    decision = denied(memory, LIMITS[0])
    hit = decision.group.hits[0]
    for number in range(2 * MAX_DENIALS + 10):
        memory._remember(hit._replace(key=str(number)), decision.facts[0], clock(), clock() + 1_000_000)
    (table,) = memory._tables.all()
    assert len(table.latest) + len(table.older) <= 2 * MAX_DENIALS
    recall = memory.single(LIMITS[0], "n")
    assert recall(str(2 * MAX_DENIALS), 1) is not None
    assert recall("0", 1) is None


# Names that come and go


def test_names_that_come_and_go_leave_nothing_behind(clock: ManualClock) -> None:
    """As of tenants, each with a limiter that is made, denies and is dropped: of one limit, and of several."""
    memory = DenialMemory(1_000_000, clock)

    def come_and_go(numbers: range) -> None:
        for number in numbers:
            name = f"tenant {number}"
            recall = memory.single(LIMITS[0], name)
            denied(memory, LIMITS[0], name=name)
            assert recall("k", 1) is not None
            denied(memory, LIMITS[3], name=name)  # which nobody recalls by `single`
            clock.advance(microseconds=10_000)

    tracemalloc.start()
    try:
        come_and_go(range(1_000))
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        come_and_go(range(1_000, 6_000))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5_000 * 10  # bytes
    come_and_go(range(6_000, 20_000))
    assert len(memory._kept) < 500
    assert len(memory._tables) < 1_000


def test_names_that_come_and_go_in_no_time_take_bounded_room(clock: ManualClock) -> None:
    memory = DenialMemory(1_000_000, clock)
    for number in range(4 * MAX_KEPT):
        denied(memory, LIMITS[0], name=f"tenant {number}")
    assert len(memory._tables.all()) <= MAX_KEPT
    assert len(memory._tables) <= 2 * MAX_KEPT


def test_a_denial_is_remembered_though_its_limiter_is_gone(clock: ManualClock) -> None:
    """A limiter may be made for each request."""
    memory = DenialMemory(1_000_000, clock)
    denied(memory, LIMITS[0])
    for passed_us in (0, 500_000, 499_999):
        clock.advance(microseconds=passed_us)
        gc.collect()
        assert memory.single(LIMITS[0], "n")("k", 1) is not None


def test_what_is_given_back_through_one_limiter_another_of_the_same_name_hears_of(clock: ManualClock) -> None:
    memory = DenialMemory(1_000_000, clock)
    for _ in range(3):  # the limiters that remember have gone and come again
        one, other = memory.single(LIMITS[0], "n"), memory.single(LIMITS[0], "n")
        decision = denied(memory, LIMITS[0])
        assert one("k", 1) is not None
        assert other("k", 1) is not None
        memory.forget([Group(decision.group.hits, 0, "give_back")])
        assert one("k", 1) is None
        assert other("k", 1) is None
        clock.advance(seconds=5)
        denied(memory, LIMITS[1], name="another")
        del one, other
        gc.collect()


def test_a_limiter_that_denies_for_long_remembers_all_along(clock: ManualClock) -> None:
    memory = DenialMemory(1_000_000, clock)
    recall = memory.single(LIMITS[1], "n")
    for _ in range(50):
        denied(memory, LIMITS[1])
        assert recall("k", 1) is not None
        clock.advance(microseconds=300_000)
        denied(memory, LIMITS[0], name="another")
        assert recall("k", 1) is not None


def test_no_two_forgettings_are_taken_for_one(clock: ManualClock) -> None:
    memory = DenialMemory(1_000_000, clock)
    hit = Hit(LIMITS[0], "k", "n", 1)
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda _: memory.forget([Group((hit,), 0, "forget")]), range(400)))
    assert len(told) == 400
    assert next(memory._numbers) == 401


def test_limiters_of_many_tenants_leave_nothing_behind(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    store.use_clock(clock := ManualClock())
    denials = store._learnt.denials
    assert denials is not None
    for number in range(2_000):
        limiter = Limiter("1/hour", store=store, name=f"tenant {number}", on_outage="raise")
        assert limiter.try_acquire("k")
        assert not limiter.try_acquire("k")
        assert limiter.try_acquire("k").source == "memory_of_denial"
        clock.advance(microseconds=50_000)
    del limiter
    gc.collect()
    assert len(denials._kept) < 200
    assert len(denials._tables.all()) < 200
    store.close()


# Through limiters


@pytest.mark.parametrize("kind", ["", "fixed-window ", "sliding-window ", "sliding-log "])
async def test_both_limiters_deny_again_without_asking(valkey_url: str, prefix: str, kind: str) -> None:
    for front in (Limiter, AsyncLimiter):
        heard: list[Decision] = []
        store = RedisStore(valkey_url, prefix=f"{prefix}-{front.__name__}", timeout=PATIENT)
        limiter: Any = front(f"{kind}5/minute", store=store, on_outage="raise", on_decision=heard.append)

        async def ask(limiter: Any = limiter, front: Any = front, **options: Any) -> Any:
            decision = limiter.try_acquire("k", **options)
            return await decision if front is AsyncLimiter else decision

        sources = [(await ask()).source for _ in range(8)]
        assert sources == ["store"] * 6 + ["memory_of_denial"] * 2
        assert len(heard) == 8
        reset = limiter.reset("k")
        if front is AsyncLimiter:
            await reset
        assert await ask()  # what is reset here is known here
        await store.aclose()


def test_a_denied_tier_denies_whatever_else_is_asked_with_it(valkey_url: str, prefix: str) -> None:
    with Limiter({"ip": "9/minute", "all": "2/minute"}, store=valkey_url, prefix=prefix, timeout=PATIENT) as limiter:
        told = [limiter.try_acquire({"ip": str(number), "all": "*"}) for number in range(5)]
        assert [decision.source for decision in told] == ["store"] * 3 + ["memory_of_denial"] * 2
        assert [decision.allowed for decision in told] == [True, True, False, False, False]
        assert {decision.binding for decision in told[2:]} == {"all"}
        assert limiter.peek({"ip": "4", "all": "other"}, 0).allowed


def test_refunds_and_settling_are_heard_of(valkey_url: str, prefix: str) -> None:
    with Limiter("3/hour", store=valkey_url, prefix=prefix, timeout=PATIENT) as limiter:
        spent = limiter.try_acquire("k", 3)
        assert [limiter.try_acquire("k").source for _ in range(2)] == ["store", "memory_of_denial"]
        limiter.settle(spent, 2)
        assert limiter.try_acquire("k")
        again = limiter.try_acquire("other", 3)
        assert not limiter.try_acquire("other")
        limiter.refund(again)
        assert limiter.try_acquire("other")


def test_it_can_be_switched_off(valkey_url: str, prefix: str) -> None:
    with Limiter("1/hour", store=valkey_url, prefix=prefix, timeout=PATIENT, remember_denials=0) as limiter:
        assert [limiter.try_acquire("k").source for _ in range(4)] == ["store"] * 4


# Penalties


PENALTY_STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 1_000, 999_999, 1_000_000, 10_000_000, 30_000_000, 90_000_000]),  # later by us
        st.integers(0, 2),  # which store
        st.integers(0, 3),  # which group
        st.integers(0, 2),  # cost
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=quickly(40))
@given(steps=PENALTY_STEPS)
def test_penalties_count_and_block_as_if_no_denial_was_remembered(
    stores: list[RedisStore], clock: ManualClock, steps: list[Any]
) -> None:
    """Three processes that remember, beside a store that never does and is asked the same."""
    *remembering, truth = stores
    other_truth = MemoryStore(clock)
    bucket, log = TokenBucket(1, per=40, burst=2), SlidingLog(2, per=50)
    penalties = [Penalty(2, per=60, block=90), Penalty(3, per=60, block=100)]
    names = ["bucket", "log", "first", "second"]
    truth.decide(
        [Group((Hit(limit, "k", name, 0),), 0, "forget") for name in names for limit in (bucket, log, *penalties)]
    )
    for store in remembering:
        assert store._learnt.denials is not None
        store._learnt.denials.clear()
    for later_us, who, which, cost in steps:
        clock.advance(microseconds=later_us)
        hits = [Hit(bucket, "k", "bucket", cost), Hit(log, "k", "log", cost)]
        watching = [Hit(one, "k", name, min(cost, 1)) for one, name in zip(penalties, names[2:], strict=True)]
        groups = [
            (hits[0], watching[0]),
            (hits[1], watching[1]),
            (hits[0], watching[0], hits[1], watching[1]),
            (hits[0],),
        ]
        group = Group(groups[which])
        expected = other_truth.decide([group])[0]
        assert remembering[who].decide([group])[0].allowed == expected.allowed
        for one in watching:
            look = [Group((one,), 0, "peek")]
            assert truth.decide(look)[0].facts == other_truth.decide(look)[0].facts


def test_a_blocked_key_costs_the_server_nothing_while_that_is_remembered() -> None:
    clock = ManualClock()
    with own_valkey() as own, remembering_store(own.url, clock) as store:
        limiter = Limiter("2/minute", store=store, name="api", on_outage="raise", penalty="3 denials/minute -> 1h")
        tiers = Limiter({"user": "9/minute", "ip": "2/minute"}, store=store, name="tiers", penalty="1 denial/h -> 1h")
        keys = {"user": "ann", "ip": "here"}
        for _ in range(5):
            limiter.try_acquire("k")
        for _ in range(3):
            tiers.try_acquire(keys)
        asked = own.calls()["evalsha"]
        for _ in range(100):
            assert limiter.try_acquire("k").source == tiers.try_acquire(keys).source == "memory_of_denial"
        denied = limiter.try_acquire("k", 0)
        assert (denied.binding, denied.retry_after) == ("api.penalty", 3_600)
        assert tiers.try_acquire({"user": "bob", "ip": "here"}).binding == "ip:penalty"
        with pytest.raises(AcquireTimeout):
            limiter.acquire("k", timeout=10)
        assert own.calls()["evalsha"] == asked
        clock.advance(seconds=1)
        assert limiter.try_acquire("k").source == "store"
        assert limiter.try_acquire("k").retry_after == 3_599
        assert own.calls()["evalsha"] == asked + 1


def test_the_denials_that_a_penalty_counts_are_asked_for_each_in_one_call() -> None:
    with own_valkey() as own, remembering_store(own.url, ManualClock()) as store:
        limiter = Limiter("2/minute", store=store, name="api", on_outage="raise", penalty="9 denials/minute -> 1h")
        single = Limiter("2/minute", store=store, name="api", on_outage="raise")
        for _ in range(3):
            limiter.try_acquire("k")
        assert single.try_acquire("k").source == "store"
        assert single.try_acquire("k").source == "memory_of_denial"
        asked = own.calls()["evalsha"]
        for _ in range(7):
            assert limiter.try_acquire("k").binding == "api"
        assert limiter.try_acquire("k").binding == "api.penalty"
        assert own.calls()["evalsha"] == asked + 8


def test_a_reset_is_heard_of_where_a_block_is_remembered() -> None:
    with own_valkey() as own, remembering_store(own.url, ManualClock()) as store:
        limiter = Limiter("1/minute", store=store, name="api", on_outage="raise", penalty="1 denial/minute -> 1h")
        for _ in range(3):
            limiter.try_acquire("k")
        assert limiter.try_acquire("k").source == "memory_of_denial"
        limiter.reset("k")
        assert limiter.try_acquire("k")


@contextmanager
def remembering_store(url: str, clock: ManualClock) -> Iterator[RedisStore]:
    """A store that remembers, by a clock that stands still."""
    store = RedisStore(url, timeout=PATIENT)
    store.use_clock(clock)
    yield store
    store.close()

"""Taking as much as there is, leaving a reserve, and charging a request once."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import (
    AsyncLimiter,
    CostExceedsCapacity,
    Decision,
    InvalidCost,
    InvalidKey,
    InvalidUse,
    Limiter,
    ManualClock,
    MemoryStore,
)
from headgate.limiter.naming import Limits
from headgate.plans.requests import costs_up_to
from headgate.stores.registry import open_store

KINDS = ["10/hour", "fixed-window 10/hour", "sliding-window 10/hour", "sliding-log 10/hour"]
kinds = pytest.mark.parametrize("limit", KINDS)


def limiter_of(limit: Limits, clock: ManualClock | None = None) -> Limiter:
    return Limiter(limit, store=MemoryStore(clock=clock or ManualClock()), name="limit")


@given(most=st.integers(1, 5_000), there=st.integers(0, 6_000))
def test_who_takes_each_cost_that_fits_takes_as_much_as_there_is(most: int, there: int) -> None:
    costs = costs_up_to(most)
    left = there
    for cost in costs:
        left -= cost if cost <= left else 0
    assert sum(costs) == most
    assert there - left == min(most, there)
    assert len(costs) <= most.bit_length()


@given(st.sampled_from(KINDS), st.integers(0, 10), st.integers(1, 2**60))
def test_as_much_is_taken_as_there_is(limit: str, before: int, most: int) -> None:
    limiter = limiter_of(limit)
    limiter.try_acquire("key", before)
    decision = limiter.try_acquire_up_to("key", most)
    there = 10 - before
    assert decision.allowed == (there > 0)
    if there:
        assert decision.cost == min(there, most)
        assert decision.remaining == there - decision.cost
    assert limiter.peek("key", 0).remaining == max(0, there - most)


def test_of_several_limits_the_narrowest_says_how_much() -> None:
    limiter = limiter_of({"user": "10/hour", "all": "fixed-window 7/hour"})
    decision = limiter.try_acquire_up_to({"user": "a", "all": "*"}, 9)
    assert (decision.cost, decision.binding) == (7, "all")
    assert limiter.peek({"user": "a", "all": "*"}, {"user": 3, "all": 0}).allowed
    assert not limiter.try_acquire_up_to({"user": "a", "all": "*"}, 9)


def test_a_denial_says_when_there_is_one() -> None:
    clock = ManualClock()
    limiter = limiter_of("10/hour", clock)
    limiter.try_acquire("key", 10)
    denied = limiter.try_acquire_up_to("key", 8)
    clock.advance(microseconds=denied.retry_after_us - 1)
    assert not limiter.try_acquire_up_to("key", 8)
    clock.advance(microseconds=1)
    assert limiter.try_acquire_up_to("key", 8).cost == 1


@kinds
@pytest.mark.parametrize("is_copied", [False, True], ids=["itself", "copied"])
def test_all_that_was_taken_is_refunded_once(limit: str, is_copied: bool) -> None:
    limiter = limiter_of(limit)
    limiter.try_acquire("key", 2)
    decision = limiter.try_acquire_up_to("key", 7)
    copy: Decision = pickle.loads(pickle.dumps(decision)) if is_copied else decision
    assert (copy.cost, copy.remaining) == (7, 1)
    limiter.refund(copy)
    assert limiter.peek("key").remaining == 8
    if is_copied:
        limiter.refund(decision)
        assert limiter.peek("key").remaining == 8


@kinds
@pytest.mark.parametrize("actual", [0, 1, 3, 6, 7, 8, 9])
@pytest.mark.parametrize("is_copied", [False, True], ids=["itself", "copied"])
def test_what_was_taken_is_settled_once(limit: str, actual: int, is_copied: bool) -> None:
    limiter = limiter_of(limit)
    decision = limiter.try_acquire_up_to("key", 7)
    copy: Decision = pickle.loads(pickle.dumps(decision)) if is_copied else decision
    settled = limiter.settle(copy, actual)
    assert (settled.remaining, settled.cost) == (10 - actual, actual)
    if is_copied:
        limiter.refund(decision)
    assert limiter.peek("key").remaining == 10 - actual


@pytest.mark.parametrize("limit", ["concurrency 5", ["5/hour", "penalty 3 denials/hour -> 1h"]])
def test_slots_and_penalties_are_not_taken_up_to(limit: Limits) -> None:
    with pytest.raises(InvalidUse, match="has none"):
        limiter_of(limit).try_acquire_up_to("key", 3)


@pytest.mark.parametrize("most", [0, -1, 1.5, None])
def test_up_to_less_than_one_is_an_error(most: int) -> None:
    with pytest.raises(InvalidCost):
        limiter_of("5/hour").try_acquire_up_to("key", most)


@given(st.sampled_from(KINDS), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_request_that_leaves_a_reserve_passes_if_and_only_if_it_is_left(
    limit: str, asked: list[tuple[int, int]]
) -> None:
    limiter = limiter_of(limit)
    there = 10
    for cost, reserve in asked:
        decision = limiter.try_acquire("key", cost, reserve=reserve)
        assert decision.allowed == (there >= cost + reserve)
        there -= cost if decision.allowed else 0
        assert limiter.peek("key", 0).remaining == there
        assert limiter.peek("key", cost, reserve=reserve).allowed == (there >= cost + reserve)


def test_a_reserve_may_be_of_some_tiers() -> None:
    limiter = limiter_of({"user": "10/hour", "all": "10/hour"})
    keys = {"user": "a", "all": "*"}
    assert limiter.try_acquire(keys, 6, reserve={"all": 4})
    assert not limiter.try_acquire(keys, reserve={"all": 4})
    assert limiter.try_acquire(keys, reserve={"user": 3})
    with pytest.raises(InvalidUse, match="no tier 'app'"):
        limiter.try_acquire(keys, reserve={"app": 1})


def test_of_slots_and_penalties_nothing_is_kept_back() -> None:
    limiter = limiter_of(["10/hour", "concurrency 2", "penalty 9 denials/hour -> 1h"])
    assert limiter.try_acquire("key", reserve=9)
    assert not limiter.try_acquire("key", reserve=9)
    with pytest.raises(InvalidUse, match="of tokens"):
        limiter_of("concurrency 2").try_acquire("key", reserve=1)


def test_a_reserve_that_is_none_is_an_error() -> None:
    limiter = limiter_of("10/hour")
    with pytest.raises(InvalidCost, match="at least 0"):
        limiter.try_acquire("key", reserve=-1)
    with pytest.raises(InvalidCost):
        limiter.try_acquire("key", reserve=0.5)  # type: ignore[arg-type]
    with pytest.raises(CostExceedsCapacity):
        limiter.try_acquire("key", 2, reserve=9)
    with pytest.raises(InvalidUse, match="by tier"):
        limiter.try_acquire("key", reserve={"user": 1})


def test_a_reserve_holds_beside_a_lease(valkey_url: str, prefix: str) -> None:
    with Limiter("10/hour", store=valkey_url, name=prefix, lease=True) as limiter:
        assert limiter.try_acquire("key", 4, reserve=6)
        assert not limiter.try_acquire("key", reserve=6)


def test_an_id_goes_with_limits_of_one_key_and_a_period() -> None:
    with pytest.raises(InvalidUse, match="one key"):
        limiter_of({"user": "5/hour", "ip": "9/hour"}).try_acquire_once({"user": "a", "ip": "b"}, "id")
    with pytest.raises(InvalidUse, match="slots"):
        limiter_of("concurrency 5").try_acquire_once("key", "id")
    for period in (0, -1, "1"):
        with pytest.raises(InvalidUse, match="period"):
            limiter_of("5/hour").try_acquire_once("key", "id", period=period)  # type: ignore[arg-type]
    for request_id in ("", "a\0b", 7):
        with pytest.raises(InvalidKey):
            limiter_of("5/hour").try_acquire_once("key", request_id)  # type: ignore[arg-type]


def test_an_id_is_charged_once_by_tiers_of_one_key(valkey_url: str, prefix: str) -> None:
    for store in (MemoryStore(), valkey_url):
        limiter = Limiter({"requests": "5/hour", "tokens": "90/hour"}, store=store, name=f"{prefix}tiers")
        keys = {"requests": "ann", "tokens": "ann"}
        for _ in range(3):
            decision = limiter.try_acquire_once(keys, "id", {"requests": 1, "tokens": 60})
            assert decision
        assert [standing.remaining for standing in decision.standings(("requests", "tokens"))] == [4, 30]
        assert not limiter.try_acquire_once(keys, "another", {"requests": 1, "tokens": 60})
        limiter.close()


def test_what_is_refunded_is_not_charged_again() -> None:
    limiter = limiter_of("10/hour")
    limiter.refund(limiter.try_acquire_once("key", "id", 4))
    assert limiter.peek("key").remaining == 10
    assert limiter.try_acquire_once("key", "id", 4).remaining == 10


@kinds
@pytest.mark.parametrize("is_copied", [False, True], ids=["itself", "copied"])
def test_a_repeat_that_charged_nothing_gives_nothing_back(limit: str, is_copied: bool) -> None:
    limiter = limiter_of(limit)
    limiter.try_acquire("key", 3)
    first, *repeats = [limiter.try_acquire_once("key", "id", 4) for _ in range(4)]
    if is_copied:
        repeats = [pickle.loads(pickle.dumps(one)) for one in repeats]
    assert [(one.was_known, one.cost, one.allowed) for one in (first, *repeats)] == [
        (False, 4, True),
        *[(True, 0, True)] * 3,
    ]
    limiter.refund(repeats[0])
    for actual, repeat in zip((0, 6), repeats[1:], strict=True):
        assert (limiter.settle(repeat, actual).remaining, limiter.peek("key").remaining) == (3, 3)
        with pytest.raises(InvalidUse, match="settled before"):
            limiter.refund(repeat)
    limiter.settle(first, 5)
    assert limiter.peek("key").remaining == 2


def test_a_share_tells_a_repeat_from_the_first(prefix: str) -> None:
    limiter = Limiter("10/day", store="redis://127.0.0.1:1", name=prefix, on_outage="local", instances=1)
    first, repeat = [limiter.try_acquire_once("key", "id", 4) for _ in range(2)]
    assert [(one.source, one.was_known, one.cost) for one in (first, repeat)] == [
        ("local", False, 4),
        ("local", True, 0),
    ]
    limiter.refund(repeat)
    assert limiter.try_acquire_once("key", "id").remaining == 6
    limiter.close()


def test_a_denial_in_memory_is_nothing_to_a_request_that_was_charged(valkey_url: str, prefix: str) -> None:
    with Limiter(["10/hour", "8/day"], store=valkey_url, name=prefix) as limiter:
        assert limiter.try_acquire_once("key", "id", 8)
        assert not limiter.try_acquire("key")
        assert limiter.try_acquire("key").source == "memory_of_denial"
        assert limiter.try_acquire_once("key", "id", 8)


@pytest.fixture(params=["sqlite", "valkey", "cluster", "postgres", "nats"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('taking')}/limits.db"
    else:
        yield request.getfixturevalue(f"{request.param}_url")


def test_many_at_once_take_exactly_what_there_is_and_charge_an_id_once(store_url: str, prefix: str) -> None:
    with (
        Limiter("100/day", store=store_url, name=prefix, timeout=30, on_outage="raise") as limiter,
        ThreadPoolExecutor(16) as pool,
    ):
        taken = list(pool.map(lambda _: limiter.try_acquire_up_to("some", 9), range(32)))
        assert sum(one.cost for one in taken if one.allowed) == 100
        charged = list(pool.map(lambda _: limiter.try_acquire_once("other", "id", 60), range(32)))
        assert all(charged)
        assert limiter.peek("other").remaining == 40
        left = list(pool.map(lambda _: limiter.try_acquire("third", 9, reserve=50), range(16)))
        assert sum(map(bool, left)) == 5


async def test_the_same_holds_for_tasks(store_url: str, prefix: str) -> None:
    async with AsyncLimiter("100/day", store=store_url, name=prefix, timeout=30, on_outage="raise") as limiter:
        taken = await asyncio.gather(*[limiter.try_acquire_up_to("some", 9) for _ in range(32)])
        assert sum(one.cost for one in taken if one.allowed) == 100
        charged = await asyncio.gather(*[limiter.try_acquire_once("other", "id", 60) for _ in range(32)])
        assert all(charged)
        assert (await limiter.peek("other")).remaining == 40
        left = await asyncio.gather(*[limiter.try_acquire("third", 9, reserve=50) for _ in range(16)])
        assert sum(map(bool, left)) == 5
        assert (await limiter.peek("third", 9, reserve=50)).allowed is False


async def cancelled_in_mid_trip(limiter: AsyncLimiter, request_ids: list[str], rounds: int) -> int:
    """Ask for requests, and cancel all of them after so many rounds of the event loop: how many were."""
    tasks = [asyncio.create_task(limiter.try_acquire_once("key", one, 2, period=3_600)) for one in request_ids]
    for _ in range(rounds):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(isinstance(one, asyncio.CancelledError) for one in ended)


@pytest.mark.parametrize("coalesce", [True, False], ids=["together", "alone"])
async def test_repeats_that_are_cancelled_give_nothing_back(store_url: str, prefix: str, coalesce: bool) -> None:
    options = {} if store_url.startswith("sqlite") else {"coalesce": coalesce}
    store = open_store(store_url, timeout=30, **options)
    async with AsyncLimiter("40/day", store=store, name=prefix, on_outage="raise") as limiter:
        await limiter.try_acquire_once("key", "known", 2)
        for rounds in range(0, 60, 7):
            await cancelled_in_mid_trip(limiter, ["known"] * 60, rounds)
            await limiter.try_acquire_once("key", "known", 2)  # behind all that was on its way
            assert (await limiter.peek("key", 0)).remaining == 38
    await store.aclose()


async def test_first_requests_that_are_cancelled_are_charged_when_they_come_again(store_url: str, prefix: str) -> None:
    async with AsyncLimiter("1000/day", store=store_url, name=prefix, timeout=30, on_outage="raise") as limiter:
        charged = cancelled = 0
        for rounds in range(0, 60, 7):
            ids = [f"{rounds} {number}" for number in range(60 if rounds % 2 else 6)]
            cancelled += await cancelled_in_mid_trip(limiter, ids, rounds)
            answers = [await limiter.try_acquire_once("key", one, 2, period=3_600) for one in ids]
            assert all(answers)
            charged += 2 * len(ids)
            assert (await limiter.peek("key", 0)).remaining == 1000 - charged
        assert cancelled

"""`refund` and `settle`: tokens come back once, and the truth about a cost is charged."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headgate import (
    Concurrency,
    FixedWindow,
    InvalidCost,
    InvalidUse,
    Limit,
    Limiter,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from tests.limiter.bench import Bench, ask, remaining, remaining_by_tier, told

EVERY_LIMIT = [
    TokenBucket(10, per=60),
    FixedWindow(10, per=60),
    SlidingWindow(10, per=60),
    SlidingLog(10, per=60),
    Concurrency(10, ttl=60),
]
RATES = EVERY_LIMIT[:-1]


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_refund_gives_back_what_was_taken(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "k", 3)
    decision = await ask(limiter, "k", 4)
    await told(limiter.refund(decision))
    assert await remaining(limiter, "k") == 7


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_second_refund_is_refused_and_gives_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "k", 4)
    decision = await ask(limiter, "k", 4)
    await told(limiter.refund(decision))
    with pytest.raises(InvalidUse, match="refunded or settled before"):
        await told(limiter.refund(decision))
    with pytest.raises(InvalidUse, match="refunded or settled before"):
        await told(limiter.settle(decision, 0))
    assert await remaining(limiter, "k") == 6


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_refund_of_a_denial_gives_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "k", 8)
    denied = await ask(limiter, "k", 5)
    assert not denied
    await told(limiter.refund(denied))
    assert await remaining(limiter, "k") == 2


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_refund_of_a_peek_gives_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "k", 8)
    glance = await told(limiter.peek("k", 2))
    assert glance
    await told(limiter.refund(glance))
    assert await remaining(limiter, "k") == 2


async def test_a_refund_of_tokens_that_were_earned_again_gives_no_second_ones(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(10, per=60))
    decision = await ask(limiter, "k", 4)
    bench.clock.advance(seconds=60)
    await ask(limiter, "k", 3)
    await told(limiter.refund(decision))
    assert await remaining(limiter, "k") == 7


async def test_a_refund_after_its_window_gives_nothing_to_the_next(bench: Bench) -> None:
    bench.clock.set(1_800_000_000_000_000)
    limiter = bench.limiter(FixedWindow(10, per=60))
    decision = await ask(limiter, "k", 4)
    bench.clock.advance(seconds=60)
    await ask(limiter, "k", 3)
    await told(limiter.refund(decision))
    assert await remaining(limiter, "k") == 7


async def test_a_refund_gives_back_in_every_limit_of_the_group(bench: Bench) -> None:
    limiter = bench.limiter({"user": "10/minute", "ip": "fixed-window 20/minute", "job": "concurrency 2"})
    keys = {"user": "42", "ip": "a", "job": "j"}
    decision = await ask(limiter, keys, {"user": 2, "ip": 3, "job": 1})
    assert await remaining_by_tier(limiter, keys) == {"user": 8, "ip": 17, "job": 1}
    await told(limiter.refund(decision))
    assert await remaining_by_tier(limiter, keys) == {"user": 10, "ip": 20, "job": 2}


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_settling_for_less_gives_the_rest_back(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    estimate = await ask(limiter, "k", 8)
    settled = await told(limiter.settle(estimate, 3))
    assert settled
    assert (settled.cost, settled.remaining) == (3, 7)
    assert await remaining(limiter, "k") == 7


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_settling_for_more_charges_the_difference(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    estimate = await ask(limiter, "k", 3)
    settled = await told(limiter.settle(estimate, 9))
    assert (settled.cost, settled.remaining) == (9, 1)
    assert await remaining(limiter, "k") == 1


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_settling_for_more_than_the_capacity_charges_it_all_the_same(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    estimate = await ask(limiter, "k", 3)
    settled = await told(limiter.settle(estimate, 25))
    assert settled.remaining == 0
    assert not await ask(limiter, "k")
    bench.clock.advance(seconds=59)
    assert not await ask(limiter, "k")


async def test_a_bucket_that_was_charged_beyond_its_capacity_owes_exactly_that(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(10, per=60))
    settled = await told(limiter.settle(await ask(limiter, "k", 3), 25))
    assert settled.reset_after_us == 150_000_000  # 25 tokens at 6 s each
    denied = await ask(limiter, "k")
    assert denied.retry_after_us == 96_000_000  # until 15 have been earned, and one more
    bench.clock.advance(microseconds=95_999_999)
    assert not await ask(limiter, "k")
    bench.clock.advance(microseconds=1)
    assert await ask(limiter, "k")


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_settling_for_the_estimate_changes_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    settled = await told(limiter.settle(await ask(limiter, "k", 3), 3))
    assert settled.cost == 3
    assert await remaining(limiter, "k") == 7


async def test_settling_for_nothing_is_a_refund(bench: Bench) -> None:
    limiter = bench.limiter("10/minute")
    await told(limiter.settle(await ask(limiter, "k", 3), 0))
    assert await remaining(limiter, "k") == 10


async def test_a_decision_is_settled_once(bench: Bench) -> None:
    limiter = bench.limiter("10/minute")
    estimate = await ask(limiter, "k", 8)
    settled = await told(limiter.settle(estimate, 3))
    for again in (estimate, settled):
        with pytest.raises(InvalidUse, match="refunded or settled before"):
            await told(limiter.settle(again, 1))
        with pytest.raises(InvalidUse, match="refunded or settled before"):
            await told(limiter.refund(again))
    assert await remaining(limiter, "k") == 7


async def test_settling_a_denial_charges_nothing(bench: Bench) -> None:
    limiter = bench.limiter("10/minute")
    await ask(limiter, "k", 8)
    settled = await told(limiter.settle(await ask(limiter, "k", 5), 9))
    assert not settled
    assert await remaining(limiter, "k") == 2


async def test_settling_leaves_slots_alone(bench: Bench) -> None:
    limiter = bench.limiter(["10/minute", "concurrency 2"])
    estimate = await ask(limiter, "k", 8)
    await told(limiter.settle(estimate, 2))
    assert await ask(limiter, "k", 1)
    denied = await ask(limiter, "k", 1)
    assert (denied.allowed, denied.binding) == (False, "concurrency 2")


async def test_tiers_are_settled_one_by_one(bench: Bench) -> None:
    limiter = bench.limiter({"requests": "10/minute", "tokens": "1000/minute", "money": "fixed-window 50/day"})
    keys = dict.fromkeys(["requests", "tokens", "money"], "team:7")
    estimate = await ask(limiter, keys, {"requests": 1, "tokens": 800, "money": 20})
    settled = await told(limiter.settle(estimate, {"requests": 1, "tokens": 500, "money": 45}))
    assert [hit.cost for hit in settled.group.hits] == [1, 500, 45]
    assert await remaining_by_tier(limiter, keys) == {"requests": 9, "tokens": 500, "money": 5}


@pytest.mark.parametrize("actual", [-1, 1.5, "3", None, True, 2**60])
async def test_an_actual_cost_that_cannot_be_is_refused_and_can_be_corrected(bench: Bench, actual: int) -> None:
    limiter = bench.limiter("10/minute")
    estimate = await ask(limiter, "k", 8)
    with pytest.raises(InvalidCost, match="an actual cost is an integer of at least 0"):
        await told(limiter.settle(estimate, actual))
    await told(limiter.settle(estimate, 1))
    assert await remaining(limiter, "k") == 9


async def test_of_many_refunds_at_once_one_counts(bench: Bench) -> None:
    limiter = bench.limiter("10/minute")
    await ask(limiter, "k", 5)
    decision = await ask(limiter, "k", 4)
    outcomes: list[str] = []

    async def give_back() -> None:
        try:
            await told(limiter.refund(decision))
            outcomes.append("given")
        except InvalidUse:
            outcomes.append("refused")

    if isinstance(limiter, Limiter):
        threads = [threading.Thread(target=asyncio.run, args=(give_back(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        await asyncio.gather(*(give_back() for _ in range(8)))
    assert sorted(outcomes) == ["given"] + ["refused"] * 7
    assert await remaining(limiter, "k") == 5

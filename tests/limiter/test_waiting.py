"""`acquire`: waiting for one's turn, in order, no longer than the caller can."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import pytest

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    CostExceedsCapacity,
    Decision,
    InvalidUse,
    Limiter,
    ManualClock,
    MemoryStore,
)
from headgate.clock import system_clock
from tests.interrupting import Interruption, interrupted_when
from tests.limiter.bench import AnyLimiter, Bench, ask, peek, remaining, told
from tests.servers import soon

WAITABLE = [
    "100/second; burst=1",
    "fixed-window 1/10ms",
    "sliding-window 1/10ms",
    "sliding-log 1/10ms",
]


@pytest.mark.parametrize("limit", WAITABLE)
async def test_a_free_turn_is_taken_at_once(bench: Bench, limit: str) -> None:
    decision = await told(bench.limiter(limit).acquire("k", timeout=0))
    assert decision
    assert decision.wait_us == 0


@pytest.mark.parametrize("limit", WAITABLE)
async def test_waiting_ends_with_an_allowed_decision_and_never_before_its_turn(live_bench: Bench, limit: str) -> None:
    limiter = live_bench.limiter(limit)
    for _ in range(4):
        decision = await told(limiter.acquire("k"))
        assert decision
        woken_us = time.time_ns() // 1_000
        # One clock may be slewed against the other, so leave them a millisecond.
        assert woken_us > decision.now_us + decision.wait_us - 1_000


@pytest.mark.parametrize(
    "limit", ["1/minute", "fixed-window 1/minute", "sliding-window 1/minute", "sliding-log 1/minute"]
)
@pytest.mark.parametrize("timeout", [0, 0.5, 29])
async def test_a_turn_that_would_come_too_late_is_refused_at_once_and_costs_nothing(
    bench: Bench, limit: str, timeout: float
) -> None:
    bench.clock.set(1_800_000_000_000_000)  # a full minute: the next window is 60 s away
    limiter = bench.limiter(limit, name="api")
    await ask(limiter, "k")
    before = await peek(limiter, "k")
    for _ in range(3):
        with pytest.raises(AcquireTimeout) as caught:
            await told(limiter.acquire("k", timeout=timeout))
        assert caught.value.decision.retry_after_us == before.retry_after_us
        assert caught.value.timeout == timeout
        assert "'api' would admit 'k' in" in str(caught.value)
        assert f"later than the timeout of {timeout:g} s" in str(caught.value)
    assert (await peek(limiter, "k")).facts == before.facts


async def test_a_wait_of_exactly_the_timeout_is_granted_and_of_a_microsecond_more_is_not(bench: Bench) -> None:
    limiter = bench.limiter("10/second; burst=100")
    await ask(limiter, "k", 100)
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire("k", timeout=0.099_999))
    decision = await told(limiter.acquire("k", timeout=0.1))
    assert decision.wait_us == 100_000


async def test_a_timeout_of_zero_waits_for_nothing(bench: Bench) -> None:
    limiter = bench.limiter("1/minute")
    assert await told(limiter.acquire("k", timeout=0))
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire("k", timeout=0))


async def test_places_in_the_queue_are_spaced_by_the_rate(bench: Bench) -> None:
    limiter = bench.limiter("100/second; burst=1000")
    await ask(limiter, "k", 998)
    waits = [(await told(limiter.acquire("k"))).wait_us for _ in range(6)]
    assert waits == [0, 0, 10_000, 20_000, 30_000, 40_000]  # the clock stands still, so all arrive at one instant
    assert not await ask(limiter, "k")


async def test_a_costly_request_waits_for_all_its_tokens(bench: Bench) -> None:
    limiter = bench.limiter("1000/second; burst=10000")
    await ask(limiter, "k", 10_000)
    assert (await told(limiter.acquire("k", 7))).wait_us == 7_000
    assert (await told(limiter.acquire("k", 1))).wait_us == 8_000


async def test_who_does_not_wait_gets_no_place_before_those_who_do(bench: Bench) -> None:
    limiter = bench.limiter("100/second; burst=1000")
    await ask(limiter, "k", 1_000)
    for _ in range(3):
        await told(limiter.acquire("k"))
    bench.clock.advance(microseconds=39_999)  # the third's turn was at 30 ms; the next token is there at 40 ms
    assert not await ask(limiter, "k")
    bench.clock.advance(microseconds=1)
    assert await ask(limiter, "k")


async def test_a_cost_that_can_never_pass_is_not_waited_for(bench: Bench) -> None:
    limiter = bench.limiter("1/second; burst=5")
    with pytest.raises(CostExceedsCapacity):
        await told(limiter.acquire("k", 6))


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, "1", True, [1]])
async def test_a_timeout_that_is_no_duration_is_refused(bench: Bench, timeout: float) -> None:
    limiter = bench.limiter("5/minute")
    with pytest.raises(InvalidUse, match="a timeout is a number of seconds of at least 0, or None, not"):
        await told(limiter.acquire("k", timeout=timeout))
    assert await remaining(limiter, "k") == 5


@pytest.mark.parametrize("timeout", [math.inf, 10**30, 1e300])
async def test_an_endless_timeout_is_as_good_as_none(bench: Bench, timeout: float) -> None:
    limiter = bench.limiter("100/second; burst=1")
    await ask(limiter, "k")
    assert await told(limiter.acquire("k", timeout=timeout))


async def test_a_full_set_of_slots_is_waited_for_until_one_is_released(live_bench: Bench) -> None:
    limiter = live_bench.limiter("concurrency 1")
    held = await ask(limiter, "k")
    assert held
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire("k", timeout=0.02))
    waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, _acquire(live_bench)))
    await asyncio.sleep(0.02)
    await told(limiter.refund(held))
    assert await waiting


async def _acquire(bench: Bench) -> bool:
    """Acquire by the other road: a limiter of its own on the same store, in a loop of its own."""
    limiter = Limiter("concurrency 1", store=bench.store, on_outage="raise")
    return bool(await asyncio.to_thread(limiter.acquire, "k", timeout=20))


async def test_waiting_tasks_are_served_in_order_of_arrival() -> None:
    # By a clock that stands still, so that turns lie 5 ms apart however long it takes until all have come: who comes at
    # its turn does not wait, and goes before those whose sleep is over but who have not woken yet.
    limiter = AsyncLimiter("200/second; burst=1", store=MemoryStore(ManualClock()), on_outage="raise")
    served: list[int] = []

    async def wait(number: int) -> None:
        await limiter.acquire("k")
        served.append(number)

    await asyncio.gather(*(wait(number) for number in range(20)))
    assert served == list(range(20))


async def waits(limiter: AsyncLimiter, before: Decision) -> bool:
    """Has anybody taken a place since?"""
    return (await limiter.peek("k")).facts != before.facts


async def test_a_cancelled_task_gives_its_tokens_back(bench: Bench) -> None:
    limiter = AsyncLimiter("1/minute", store=bench.store, on_outage="raise")
    await limiter.try_acquire("k")
    before = await limiter.peek("k")
    waiting = asyncio.create_task(limiter.acquire("k"))
    await soon(lambda: waits(limiter, before), "the task waits")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.peek("k")).facts == before.facts


async def test_a_task_that_is_cancelled_by_a_timeout_gives_its_tokens_back(bench: Bench) -> None:
    limiter = AsyncLimiter("1/minute", store=bench.store, on_outage="raise")
    await limiter.try_acquire("k")
    before = await limiter.peek("k")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await limiter.acquire("k")
    assert (await limiter.peek("k")).facts == before.facts


def has_changed(limiter: Limiter, key: str) -> Callable[[], bool]:
    """What tells whether anything was spent since now."""
    before = limiter.peek(key).facts
    return lambda: limiter.peek(key).facts != before


async def test_an_exception_out_of_a_signal_gives_the_tokens_of_a_blocking_wait_back(bench: Bench) -> None:
    limiter = Limiter("1/minute", store=bench.store, on_outage="raise")
    limiter.try_acquire("k")
    before = limiter.peek("k").facts
    with pytest.raises(Interruption), interrupted_when(has_changed(limiter, "k"), after_seconds=0.01):
        limiter.acquire("k")
    assert limiter.peek("k").facts == before


async def test_tokens_that_are_given_back_go_to_the_next_in_line() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter("1/minute", store=MemoryStore(clock), on_outage="raise")
    await limiter.try_acquire("k")
    waiting = []
    for _ in range(3):  # turns after 1, 2 and 3 minutes
        waiting.append(asyncio.create_task(limiter.acquire("k")))
        await asyncio.sleep(0)
    assert (await limiter.peek("k")).retry_after == 240
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    assert (await limiter.peek("k")).retry_after == 120  # the place that was left, at its turn
    newcomer = asyncio.create_task(limiter.acquire("k"))
    await asyncio.sleep(0)
    assert (await limiter.peek("k")).retry_after == 240
    for task in (newcomer, waiting[0], waiting[2]):
        task.cancel()
    await asyncio.wait([newcomer, waiting[0], waiting[2]])
    assert (await limiter.peek("k")).retry_after == 60


async def test_the_wait_is_counted_by_the_stores_clock_and_not_by_ours(bench: Bench) -> None:
    bench.clock.set(system_clock() - 10**12)  # eleven days behind
    limiter: AnyLimiter = bench.limiter("100/second; burst=1000")
    await ask(limiter, "k", 1_000)
    assert (await told(limiter.acquire("k"))).wait_us == 10_000

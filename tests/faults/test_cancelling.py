"""Waiters that give up: their tokens come back, whatever ends them and in whatever order."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator

import pytest

from headgate import AsyncLimiter, Limiter, ManualClock, MemoryStore, Store
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT, wait_until_killed
from tests.servers import eventually


class Bench:
    """A bucket of a token a minute, drained, by a clock that stands still."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.clock = clock
        self.asked = 0
        self.limiter = AsyncLimiter("1/minute", store=store, on_outage="raise", on_decision=self._count)

    def _count(self, decision: object) -> None:
        self.asked += 1

    async def queue_up(self, waiters: int) -> list[asyncio.Task[object]]:
        """Let some wait, in this order."""
        tasks: list[asyncio.Task[object]] = []
        for _ in range(waiters):
            before = self.asked
            tasks.append(asyncio.create_task(self.limiter.acquire("k")))
            while self.asked == before:
                await asyncio.sleep(0)
        return tasks

    async def debt_us(self) -> int:
        return (await self.limiter.peek("k", 0)).reset_after_us

    async def wait_of_a_newcomer(self) -> int:
        """Minutes until one who came now would have its turn."""
        return (await self.limiter.peek("k")).retry_after_us // 60_000_000


@pytest.fixture(params=["memory", "valkey"])
async def bench(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> AsyncIterator[Bench]:
    clock = ManualClock()
    store: Store
    if request.param == "memory":
        store = MemoryStore(clock)
    else:
        store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
        store._now = clock
    made = Bench(store, clock)
    await made.limiter.try_acquire("k")
    yield made
    await store.aclose()


async def cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_waiters_cancelled_one_by_one_in_any_order_leave_the_debt_as_it_was(
    bench: Bench, order: tuple[int, ...]
) -> None:
    before = await bench.debt_us()
    waiting = await bench.queue_up(4)
    assert await bench.debt_us() == before + 4 * 60_000_000
    for number in order:
        await cancel(waiting[number])
    assert await bench.debt_us() == before
    assert await bench.wait_of_a_newcomer() == 1


async def test_waiters_cancelled_all_at_once_leave_the_debt_as_it_was(bench: Bench) -> None:
    before = await bench.debt_us()
    for _ in range(3):
        await cancel(*await bench.queue_up(10))
        assert await bench.debt_us() == before


async def test_waiters_cancelled_before_their_question_was_answered_leave_the_debt_as_it_was(bench: Bench) -> None:
    before = await bench.debt_us()
    for rounds in range(12):
        tasks = [asyncio.create_task(bench.limiter.acquire("k")) for _ in range(5)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        await cancel(*tasks)
        while await bench.debt_us() != before:  # what was under way is given back as soon as it is known
            await asyncio.sleep(0.001)


async def test_newcomers_take_the_places_that_were_left(bench: Bench) -> None:
    waiting = await bench.queue_up(5)
    await cancel(waiting[1], waiting[3])
    # The others keep their turns after 1, 3 and 5 minutes; 2 and 4 are free.
    for minutes in (2, 4, 6):
        assert await bench.wait_of_a_newcomer() == minutes
        waiting += await bench.queue_up(1)
    await cancel(*(task for task in waiting if not task.done()))
    assert await bench.wait_of_a_newcomer() == 1


async def test_a_cancelled_waiter_gives_back_no_more_than_is_still_owed(bench: Bench) -> None:
    (waiter,) = await bench.queue_up(1)
    bench.clock.advance(seconds=30)
    owed = await bench.debt_us()
    await cancel(waiter)
    assert await bench.debt_us() == owed - 60_000_000


async def test_a_waiter_cancelled_twice_gives_back_once(bench: Bench) -> None:
    before = await bench.debt_us()
    waiting = await bench.queue_up(3)
    waiting[1].cancel()
    await asyncio.sleep(0)
    waiting[1].cancel()  # while it gives back
    await asyncio.wait([waiting[1]])
    while (await bench.wait_of_a_newcomer()) != 2:
        await asyncio.sleep(0.001)
    await cancel(waiting[0], waiting[2])
    assert await bench.debt_us() == before


async def test_waiters_for_a_slot_leave_nothing_behind(bench: Bench) -> None:
    limiter = AsyncLimiter("concurrency 1", store=bench.limiter._store, on_outage="raise")
    held = await limiter.try_acquire("k")
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(limiter.acquire("k")) for _ in range(5)]
    await asyncio.sleep(0.02)
    await cancel(*tasks)
    await limiter.refund(held)
    assert (await limiter.peek("k", 0)).remaining == 1


@pytest.mark.parametrize("is_interrupted", [True, False], ids=["SIGINT", "SIGKILL"])
def test_a_process_that_ends_while_it_waits_gives_back_if_it_can(
    valkey_url: str, prefix: str, is_interrupted: bool
) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter("1/hour", store=store, on_outage="raise")
    limiter.try_acquire("k")
    process = multiprocessing.get_context("spawn").Process(
        target=wait_until_killed, args=(valkey_url, prefix, "1/hour"), daemon=True
    )
    process.start()
    try:
        eventually(lambda: limiter.peek("k").retry_after > 7_000, "the process waits")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT if is_interrupted else signal.SIGKILL)
        process.join(20)
        assert process.exitcode == (42 if is_interrupted else -signal.SIGKILL)
    finally:
        process.kill()
        process.join()
    # Nobody can give back what a killed process took: its place stays taken, and is earned again like any other.
    assert (limiter.peek("k").retry_after > 7_000) is not is_interrupted
    store.close()

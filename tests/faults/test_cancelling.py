"""Waiters that give up: their tokens come back, whatever ends them and in whatever order."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from headgate import AsyncLimiter, Limiter, ManualClock, MemoryStore, Store, StoreTimeout
from headgate.batching import Arrive, AsyncCoalescer, ThreadCoalescer
from headgate.decision import Answer
from headgate.hits import Group
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT, wait_until_killed
from tests.interrupting import Interruption, interrupted_when
from tests.servers import eventually, soon, store_by_clock


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
            await soon(lambda before=before: self._has_asked_more_than(before), "the waiter has its place")  # type: ignore[misc]
        return tasks

    async def _has_asked_more_than(self, number: int) -> bool:
        return self.asked > number

    async def debt_us(self) -> int:
        return (await self.limiter.peek("k", 0)).reset_after_us

    async def owes(self, debt_us: int) -> bool:
        return await self.debt_us() == debt_us

    async def wait_of_a_newcomer(self) -> int:
        """Minutes until one who came now would have its turn."""
        return (await self.limiter.peek("k")).retry_after_us // 60_000_000


@pytest.fixture(params=["memory", "valkey"])
async def bench(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> AsyncIterator[Bench]:
    clock = ManualClock()
    store = store_by_clock(request.param, valkey_url, prefix, clock)
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
    for rounds in range(30):
        tasks = [asyncio.create_task(bench.limiter.acquire("k")) for _ in range(5)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        await cancel(*tasks)
        # What was under way is given back as soon as it is known.
        await soon(lambda: bench.owes(before), f"all is given back after {rounds} rounds")


async def test_a_question_cancelled_on_its_way_is_given_back_without_company_too(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT, coalesce=False)
    limiter = AsyncLimiter("5/hour", store=store, on_outage="raise")
    await limiter.try_acquire("k", 2)
    for rounds in range(12):
        task = asyncio.create_task(limiter.try_acquire("k", 3))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():  # it was quick
            await limiter.refund(task.result())

        async def is_back() -> bool:
            return (await limiter.peek("k", 0)).remaining == 3

        await soon(is_back, f"what was taken is given back after {rounds} rounds")
    await store.aclose()


@pytest.mark.parametrize("settles", [False, True], ids=["refund", "settle"])
@pytest.mark.parametrize("coalesce", [True, False], ids=["together", "alone"])
async def test_a_task_cancelled_while_it_gives_back_gives_back_all_the_same(
    valkey_url: str, prefix: str, coalesce: bool, settles: bool
) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT, coalesce=coalesce)
    limiter = AsyncLimiter("9/hour", store=store, on_outage="raise")
    for rounds in range(1, 12):
        key = f"k{rounds}"
        spent = await limiter.try_acquire(key, 5)
        giving_back = limiter.settle(spent, 1) if settles else limiter.refund(spent)
        task = asyncio.create_task(giving_back)
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert (await limiter.peek(key, 0)).remaining == (8 if settles else 9), f"cancelled after {rounds} rounds"
    await store.aclose()


async def test_an_answer_that_came_just_before_the_cancellation_is_given_back() -> None:
    store = MemoryStore(ManualClock())
    limiter = Limiter("5/minute", store=store)

    def start(groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        return asyncio.get_running_loop().call_soon(lambda: arrive(list(store.decide(groups)))).cancel

    coalescer = AsyncCoalescer(start, lambda: StoreTimeout("test", "too late"), PATIENT)
    for rounds in range(12):
        task = asyncio.create_task(coalescer.decide([limiter._policy.group("k")]))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for _ in range(10):
            await asyncio.sleep(0)
        assert limiter.peek("k", 0).remaining == (5 if task.cancelled() else 4), f"cancelled after {rounds} rounds"
        limiter.reset("k")


class Gated:
    """A memory store, and batches to it that need a permit each."""

    def __init__(self) -> None:
        self.store = MemoryStore(ManualClock())
        self.limiter = Limiter("5/minute", store=self.store)
        self.permits = threading.Semaphore(0)
        self.batches = 0
        self.coalescer = ThreadCoalescer(self._make, lambda: StoreTimeout("test", "too late"), 5)

    def _make(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        self.batches += 1
        assert self.permits.acquire(timeout=PATIENT)
        return list(self.store.decide(groups))

    def ask(self, key: str) -> list[Answer]:
        return self.coalescer.decide([self.limiter._policy.group(key)])

    def is_queued(self, waiters: int) -> bool:
        return len(self.coalescer._waiting) == waiters


def test_a_thread_interrupted_in_the_queue_holds_up_nobody_else() -> None:
    gated = Gated()
    leader = threading.Thread(target=gated.ask, args=("leader",))
    leader.start()
    eventually(lambda: gated.batches == 1, "the leader has set out")
    with pytest.raises(Interruption), interrupted_when(lambda: gated.is_queued(1), after_seconds=0.05):
        gated.ask("waiter")
    gated.permits.release(9)
    leader.join()
    for _ in range(2):
        assert [bool(answer) for answer in gated.ask("next")] == [True]
    assert gated.limiter.peek("waiter", 0).remaining == 5


def test_what_is_admitted_for_a_thread_that_was_interrupted_on_its_way_is_given_back() -> None:
    gated = Gated()
    first, second = (threading.Thread(target=gated.ask, args=(name,)) for name in ("first", "second"))
    first.start()
    eventually(lambda: gated.batches == 1, "the first has set out")
    second.start()
    eventually(lambda: gated.is_queued(1), "the second waits to lead")

    def is_under_way() -> bool:
        if gated.batches == 1 and gated.is_queued(2):  # the main thread waits behind the second
            gated.permits.release()  # the first arrives, and the second sets out with the main thread's question
            first.join()
        return gated.batches == 2

    with pytest.raises(Interruption), interrupted_when(is_under_way, after_seconds=0.05):
        gated.ask("waiter")
    gated.permits.release(9)
    second.join()
    assert [bool(answer) for answer in gated.ask("next")] == [True]
    assert gated.limiter.peek("waiter", 0).remaining == 5


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
    await soon(lambda: bench.owes(before + 3 * 60_000_000), "the place is given back")
    assert await bench.wait_of_a_newcomer() == 2
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
    context = multiprocessing.get_context("spawn")
    sleeps = context.Event()  # interrupted earlier, before it knows that it was admitted, it could not give back
    process = context.Process(target=wait_until_killed, args=(valkey_url, prefix, "1/hour", sleeps), daemon=True)
    process.start()
    try:
        assert sleeps.wait(20)
        assert limiter.peek("k").retry_after > 7_000
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

"""Tasks that are cancelled at each await, one after the other: nothing hangs, and what was taken for nobody comes
back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from headgate import AsyncLimiter, ManualClock, MemoryStore
from headgate.stores.nats import NatsStore
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT
from tests.servers import soon

TTL_S = 30


class CancelledAt:
    """Awaits something, and has the task cancelled at the n-th place where it waits: as it begins to wait there, or
    (`is_late`) just as what it waits for has come.
    """

    def __init__(self, awaited: Awaitable[Any], number: int, *, is_late: bool) -> None:
        self._awaited = awaited
        self._left = number
        self._is_late = is_late
        self.was_reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaited.__await__()
        given: Any = None
        failure: BaseException | None = None
        while True:
            try:
                waited = steps.send(given) if failure is None else steps.throw(failure)
            except StopIteration as done:
                return done.value
            self._left -= 1
            if self._left == 0:
                self.was_reached = True
                task = asyncio.current_task()
                assert task is not None
                if self._is_late and waited is not None:
                    waited.add_done_callback(lambda _, task=task: task.cancel())
                else:
                    task.cancel()
            given, failure = None, None
            try:
                given = yield waited
            except BaseException as error:
                failure = error


Work = Callable[[AsyncLimiter, str], Awaitable[object]]


async def spend(limiter: AsyncLimiter, key: str) -> object:
    return await limiter.try_acquire(key, 2)


async def acquire(limiter: AsyncLimiter, key: str) -> object:
    return await limiter.acquire(key, 2, timeout=1)


async def hold(limiter: AsyncLimiter, key: str) -> object:
    async with limiter.hold(key, 2):
        await asyncio.sleep(0)
    return None


async def decorated(limiter: AsyncLimiter, key: str) -> object:
    @limiter.limit(key=key, cost=2)
    async def work() -> None:
        await asyncio.sleep(0)

    await work()
    return None


async def refund(limiter: AsyncLimiter, key: str) -> object:
    await limiter.refund(await limiter.try_acquire(key, 2))
    return None


async def settle(limiter: AsyncLimiter, key: str) -> object:
    await limiter.settle(await limiter.try_acquire(key, 2), 1)
    return None


async def peek(limiter: AsyncLimiter, key: str) -> object:
    return await limiter.peek(key)


WORKS = pytest.mark.parametrize(
    "work", [spend, acquire, hold, decorated, refund, settle, peek], ids=lambda work: work.__name__
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "valkey", "valkey, not together", "cluster", "nats"])
async def store(request: pytest.FixtureRequest, prefix: str, clock: ManualClock) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    if request.param == "nats":
        nats = NatsStore(request.getfixturevalue("nats_url"), prefix=prefix, timeout=PATIENT)
        nats.use_clock(clock)
        yield nats
        await nats.aclose()
        return
    url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "valkey_url")
    made = RedisStore(url, prefix=prefix, timeout=PATIENT, coalesce="not" not in request.param)
    made.use_clock(clock)
    yield made
    await made.aclose()


async def cancelled_at_each_await(work: Work, limiter: AsyncLimiter, *, is_late: bool) -> AsyncIterator[str]:
    """Keys, of which each has seen the work cancelled at another await."""
    number = 0
    while True:
        number += 1
        key = f"k{number}{is_late}"
        awaited = CancelledAt(work(limiter, key), number, is_late=is_late)

        async def run(awaited: CancelledAt = awaited) -> None:
            await awaited

        task = asyncio.create_task(run())
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENT)
        if not awaited.was_reached:
            assert number > 1 or isinstance(limiter._store, MemoryStore)
            return
        yield key


@WORKS
@pytest.mark.parametrize("is_late", [False, True])
async def test_slots_come_back_after_one_ttl_at_the_latest(
    work: Work, is_late: bool, store: Any, clock: ManualClock
) -> None:
    limiter = AsyncLimiter(f"concurrency 9; ttl={TTL_S}s", store=store, on_outage="raise", name="n")
    async for key in cancelled_at_each_await(work, limiter, is_late=is_late):
        assert (await limiter.peek(key, 0)).remaining >= 7
        clock.advance(seconds=TTL_S)
        assert (await limiter.peek(key, 0)).remaining == 9
        await asyncio.sleep(0)
        assert "headgate-renewal" not in [task.get_name() for task in asyncio.all_tasks()]


@WORKS
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("limit", ["9/day", "fixed-window 9/day"])
async def test_tokens_of_a_call_that_was_cancelled_come_back(limit: str, work: Work, is_late: bool, store: Any) -> None:
    limiter = AsyncLimiter(limit, store=store, on_outage="raise", name="n")
    keeps = 2 if work in (decorated, hold, refund, settle) else 0  # where it was admitted, and then cancelled

    async for key in cancelled_at_each_await(work, limiter, is_late=is_late):

        async def is_back(key: str = key) -> bool:
            return (await limiter.peek(key, 0)).remaining >= 9 - keeps

        await soon(is_back, "what was taken for nobody comes back")

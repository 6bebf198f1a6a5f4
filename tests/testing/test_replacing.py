"""`limits_off` and `deterministic`: all limiters live in another world for a while, and come back."""

from __future__ import annotations

import asyncio
import threading
import unittest
from collections.abc import AsyncIterator

import pytest

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    CostExceedsCapacity,
    Decision,
    InvalidKey,
    Limiter,
    LimitExceeded,
    ManualClock,
    MemoryStore,
    StoreOutage,
)
from headgate.testing import deterministic, limits_off

NOWHERE = "redis://127.0.0.1:1"
"""A store that cannot be asked."""

LIMITS = ["1/minute", "fixed-window 1/minute", "sliding-window 1/minute", "sliding-log 1/minute", "concurrency 1"]
all_kinds = pytest.mark.parametrize("limit", LIMITS)


@pytest.fixture
async def unreachable() -> AsyncIterator[AsyncLimiter]:
    async with AsyncLimiter("1/minute", store=NOWHERE, on_outage="raise") as limiter:
        yield limiter


# Limits off


@all_kinds
def test_with_limits_off_everything_is_admitted_and_no_store_is_asked(limit: str) -> None:
    with Limiter(limit, store=NOWHERE, on_outage="raise") as limiter, limits_off():
        for _ in range(3):
            decision = limiter.try_acquire("key")
            assert decision.allowed
            assert decision.source == "local"
            assert decision.remaining == 1
            assert limiter.acquire("key", timeout=0)
            assert limiter.acquire("key")
            with limiter.hold("key") as hold:
                assert hold.decision.allowed
                assert not hold.is_lost
            assert limiter.peek("key").remaining == 1


@all_kinds
async def test_with_limits_off_everything_is_admitted_to_tasks_too(limit: str) -> None:
    async with AsyncLimiter(limit, store=NOWHERE, on_outage="raise") as limiter:
        with limits_off():
            decisions = await asyncio.gather(*[limiter.acquire("key") for _ in range(3)])
            assert all(decisions)
            assert await limiter.try_acquire("key")
            async with limiter.hold("key") as hold:
                assert not hold.is_lost
            assert (await limiter.peek("key")).remaining == 1


def test_with_limits_off_tokens_can_be_returned_settled_and_reset() -> None:
    limiter = Limiter("5/minute", store=NOWHERE, on_outage="raise")
    with limits_off():
        limiter.refund(limiter.try_acquire("key", cost=3))
        assert limiter.settle(limiter.try_acquire("key", cost=3), actual=1).allowed
        assert limiter.settle(limiter.try_acquire("key", cost=3), actual=500).allowed
        limiter.reset("key")


def test_with_limits_off_what_is_wrong_stays_wrong() -> None:
    limiter = Limiter("5/minute")
    with limits_off():
        with pytest.raises(CostExceedsCapacity):
            limiter.try_acquire("key", cost=6)
        with pytest.raises(InvalidKey):
            limiter.try_acquire("")


def test_with_limits_off_decorated_functions_run() -> None:
    limiter = Limiter("concurrency 1", store=NOWHERE, on_outage="raise")

    @limiter.limit(key="key")
    def outer() -> str:
        return inner()

    @limiter.limit(key="key")
    def inner() -> str:
        return "ran"

    with limits_off():
        assert outer() == "ran"


def test_with_limits_off_a_limiter_still_tells_its_decisions() -> None:
    told: list[Decision] = []
    limiter = Limiter("1/minute", store=NOWHERE, on_decision=told.append)
    with limits_off():
        decisions = [limiter.try_acquire("key"), limiter.try_acquire("key")]
    assert told == decisions


def test_what_was_spent_before_is_still_spent_afterwards() -> None:
    limiter = Limiter("1/hour", store=MemoryStore(ManualClock()))
    assert limiter.try_acquire("key")
    with limits_off():
        assert limiter.try_acquire("key")
    assert not limiter.try_acquire("key")


async def test_afterwards_the_store_is_asked_again(unreachable: AsyncLimiter) -> None:
    blocking = Limiter("1/minute", store=NOWHERE, on_outage="raise")
    for world in (limits_off, deterministic):
        with world():
            assert blocking.try_acquire("key")
            assert await unreachable.try_acquire("another key")
        with pytest.raises(StoreOutage):
            blocking.try_acquire("key")
        with pytest.raises(StoreOutage):
            await unreachable.try_acquire("key")


def test_a_block_that_fails_ends_all_the_same() -> None:
    limiter = Limiter("1/hour", store=MemoryStore(ManualClock()))
    for world in (limits_off, deterministic):
        with pytest.raises(KeyError), world():
            raise KeyError
    assert [bool(limiter.try_acquire("key")) for _ in range(2)] == [True, False]


def test_blocks_within_blocks_each_have_a_world() -> None:
    limiter = Limiter("1/hour", store=NOWHERE)
    with deterministic():
        assert [bool(limiter.try_acquire("key")) for _ in range(2)] == [True, False]
        with limits_off():
            assert limiter.try_acquire("key")
        assert not limiter.try_acquire("key")


def test_an_outage_is_not_over_because_a_test_had_another_world(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter("1/minute", store=NOWHERE, breaker=False)  # of which nobody else has a share
    assert limiter.try_acquire("key").source == "fail_open"
    for world in (limits_off, deterministic):
        with world():
            limiter.try_acquire("key")
    assert limiter.try_acquire("key").source == "fail_open"
    assert len(caplog.records) == 1


def test_a_limiter_that_was_made_meanwhile_works_afterwards() -> None:
    with limits_off():
        limiter = Limiter("1/hour", store=MemoryStore(ManualClock()))
        assert all(limiter.try_acquire("key") for _ in range(3))
    assert [bool(limiter.try_acquire("key")) for _ in range(3)] == [True, False, False]


async def test_a_captured_try_acquire_follows_too() -> None:
    blocking, awaited = Limiter("1/hour", store=NOWHERE).try_acquire, AsyncLimiter("1/hour", store=NOWHERE).try_acquire
    with deterministic():
        assert [bool(blocking("ann")) for _ in range(2)] == [True, False]
        assert [bool(await awaited("bob")) for _ in range(2)] == [True, False]


def test_other_threads_live_in_the_same_world() -> None:
    limiter = Limiter("1/hour", store=NOWHERE, on_outage="raise")
    seen: list[bool] = []
    with limits_off():
        threads = [threading.Thread(target=lambda: seen.append(bool(limiter.try_acquire("key")))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 4


# On a clock of the test's


@all_kinds
def test_all_limiters_decide_on_one_store_by_the_tests_clock(limit: str) -> None:
    limiter, same = Limiter(limit, store=NOWHERE, name="api"), Limiter(limit, name="api")
    with deterministic() as clock:
        assert limiter.try_acquire("key")
        denied = same.try_acquire("key")
        assert not denied
        clock.advance(microseconds=denied.retry_after_us - 1)
        assert not limiter.try_acquire("key")
        clock.advance(microseconds=1)
        assert limiter.try_acquire("key")


async def test_both_kinds_share_the_store(unreachable: AsyncLimiter) -> None:
    blocking = Limiter("1/minute", store=NOWHERE)
    with deterministic():
        assert blocking.try_acquire("key")
        assert not await unreachable.try_acquire("key")


def test_each_world_is_new() -> None:
    limiter = Limiter("1/minute")
    for _ in range(3):
        with deterministic() as clock:
            assert clock() == ManualClock()()
            assert limiter.try_acquire("key")
            assert not limiter.try_acquire("key")


@all_kinds
def test_waiting_moves_the_clock_instead_of_sleeping(limit: str) -> None:
    limiter = Limiter(limit, store=NOWHERE)
    with deterministic() as clock:
        began_us = clock()
        for _ in range(4):
            assert limiter.acquire("key")
        assert clock() - began_us >= 3 * 60_000_000


def test_waiting_moves_the_clock_exactly_to_the_turn() -> None:
    limiter = Limiter("1/minute", store=NOWHERE)
    with deterministic() as clock:
        began_us = clock()
        for number in range(4):
            limiter.acquire("key", timeout=60)
            assert clock() - began_us == number * 60_000_000
        with pytest.raises(AcquireTimeout):
            limiter.acquire("key", timeout=59)
        assert clock() - began_us == 3 * 60_000_000


async def test_of_tasks_that_wait_the_first_in_turn_goes_first(unreachable: AsyncLimiter) -> None:
    done: list[tuple[str, int]] = []

    async def work(limiter: AsyncLimiter, name: str, clock: ManualClock) -> None:
        await limiter.acquire("key")
        done.append((name, clock()))

    slow, fast = AsyncLimiter("1/minute", store=NOWHERE), AsyncLimiter("1/10s", store=NOWHERE)
    with deterministic() as clock:
        began_us = clock()
        await asyncio.gather(
            *[work(slow, f"slow {number}", clock) for number in range(3)],
            *[work(fast, f"fast {number}", clock) for number in range(3)],
        )
    assert [(name, (us - began_us) // 1_000_000) for name, us in done] == [
        ("slow 0", 0),
        ("fast 0", 0),
        ("fast 1", 10),
        ("fast 2", 20),
        ("slow 1", 60),
        ("slow 2", 120),
    ]


async def test_a_task_that_is_cancelled_while_it_waits_gives_its_place_back(unreachable: AsyncLimiter) -> None:
    with deterministic() as clock:
        began_us = clock()
        await unreachable.acquire("key")
        waiting = asyncio.create_task(unreachable.acquire("key"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await unreachable.acquire("key")
        assert clock() - began_us == 60_000_000


def test_a_slot_that_is_held_stays_held_however_far_the_clock_jumps() -> None:
    limiter = Limiter("concurrency 1; ttl=30s", store=NOWHERE)
    with deterministic() as clock:
        with limiter.hold("key") as hold:
            for seconds in (29, 31, 3_600):
                clock.advance(seconds=seconds)
                assert not limiter.try_acquire("key")
            assert not hold.is_lost
        assert limiter.try_acquire("key")


async def test_a_slot_that_a_task_holds_stays_held_however_far_the_clock_jumps() -> None:
    limiter = AsyncLimiter("concurrency 1; ttl=30s", store=NOWHERE)
    with deterministic() as clock:
        async with limiter.hold("key"):
            clock.advance(seconds=3_600)
            assert not await limiter.try_acquire("key")
        assert await limiter.try_acquire("key")


def test_a_slot_that_nobody_holds_any_more_expires() -> None:
    limiter = Limiter("concurrency 1; ttl=30s", store=NOWHERE)
    with deterministic() as clock:
        assert limiter.try_acquire("key")
        clock.advance(seconds=30)
        assert limiter.try_acquire("key")


def test_holding_leaves_nothing_of_the_world_behind() -> None:
    limiter = Limiter("concurrency 1; ttl=30s", store=MemoryStore(ManualClock()))
    before = threading.active_count()
    with deterministic(), limiter.hold("key"):
        pass
    assert threading.active_count() == before
    with limiter.hold("key"):
        assert not limiter.try_acquire("key")
    assert limiter.try_acquire("key")


def test_decorated_functions_follow_the_tests_clock() -> None:
    limiter = Limiter("1/minute", store=NOWHERE)

    @limiter.limit(key="key")
    def work() -> str:
        return "done"

    with deterministic() as clock:
        assert work() == "done"
        with pytest.raises(LimitExceeded):
            work()
        clock.advance(seconds=60)
        assert work() == "done"


def test_tokens_can_be_returned_settled_and_reset_by_the_tests_clock() -> None:
    limiter = Limiter("5/minute", store=NOWHERE)
    with deterministic():
        limiter.refund(limiter.try_acquire("key", cost=3))
        assert limiter.peek("key").remaining == 5
        limiter.settle(limiter.try_acquire("key", cost=3), actual=5)
        assert limiter.peek("key").remaining == 0
        limiter.reset("key")
        assert limiter.peek("key").remaining == 5


def test_worlds_can_be_nested() -> None:
    limiter = Limiter("1/minute", store=MemoryStore(ManualClock()))
    with deterministic():
        limiter.try_acquire("key")
        with limits_off():
            assert limiter.try_acquire("key")
        assert not limiter.try_acquire("key")
    assert limiter.try_acquire("key")


class WithUnittest(unittest.TestCase):
    """The same without pytest."""

    def setUp(self) -> None:
        self.limiter = Limiter("1/minute", store=NOWHERE)

    def test_off(self) -> None:
        self.enterContext(limits_off())
        assert self.limiter.try_acquire("key")
        assert self.limiter.try_acquire("key")

    def test_clock(self) -> None:
        clock = self.enterContext(deterministic())
        assert self.limiter.try_acquire("key")
        assert not self.limiter.try_acquire("key")
        clock.advance(seconds=60)
        assert self.limiter.try_acquire("key")


@pytest.mark.parametrize("name", ["test_off", "test_clock"])
def test_unittest_can_use_it(name: str) -> None:
    result = unittest.TestResult()
    WithUnittest(name).run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures

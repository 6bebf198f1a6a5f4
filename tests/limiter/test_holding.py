"""`hold` and `holding`: slots are held for the time of the block, renewed meanwhile, and released at its end."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from headgate import AcquireTimeout, AsyncLimiter, Concurrency, Decision, Hold, Limiter
from tests.limiter.bench import AnyLimiter, Bench, ask, holding, peek, remaining, told
from tests.servers import soon


async def test_a_slot_is_held_for_the_time_of_the_block(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 1")
    async with holding(limiter, "k") as hold:
        assert isinstance(hold, Hold)
        assert hold.decision.allowed
        assert not hold.is_lost
        assert not await ask(limiter, "k")
    assert await ask(limiter, "k")


async def test_a_slot_is_released_when_the_block_raises(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 1")
    with pytest.raises(RuntimeError, match="in the block"):
        async with holding(limiter, "k"):
            raise RuntimeError("in the block")
    assert await remaining(limiter, "k") == 1


async def test_a_slot_is_released_when_the_task_is_cancelled(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 1")
    is_inside = asyncio.Event()

    async def work() -> None:
        async with holding(limiter, "k"):
            is_inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await is_inside.wait()
    assert await remaining(limiter, "k") == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await remaining(limiter, "k") == 1


async def test_no_more_slots_are_held_than_there_are(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 2")
    async with holding(limiter, "k"), holding(limiter, "k"):
        with pytest.raises(AcquireTimeout):
            async with holding(limiter, "k", timeout=0):
                pytest.fail("a third slot of two")
        async with holding(limiter, "other"):
            assert await remaining(limiter, "other") == 1
    assert await remaining(limiter, "k") == 2


async def test_a_hold_may_take_several_slots(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 5")
    async with holding(limiter, "k", 3):
        assert await remaining(limiter, "k") == 2
        assert not await ask(limiter, "k", 3)
    assert await remaining(limiter, "k") == 5


async def test_a_hold_that_cannot_begin_in_time_takes_nothing(bench: Bench) -> None:
    limiter = bench.limiter({"rate": "10/minute", "slots": "concurrency 1"})
    keys = {"rate": "k", "slots": "k"}
    async with holding(limiter, keys):
        with pytest.raises(AcquireTimeout):
            async with holding(limiter, keys, timeout=0):
                pytest.fail("a second slot of one")
        assert (await peek(limiter, {"rate": "k", "slots": "other"}, 0)).remaining == 9


async def test_tokens_of_other_limits_are_spent_and_not_released(bench: Bench) -> None:
    limiter = bench.limiter({"rate": "2/minute", "slots": "concurrency 5"})
    keys = {"rate": "k", "slots": "k"}
    for _ in range(2):
        async with holding(limiter, keys):
            pass
    denied = await ask(limiter, keys)
    assert (denied.allowed, denied.binding) == (False, "rate")


async def test_a_limit_without_slots_is_held_by_spending_it(bench: Bench) -> None:
    limiter = bench.limiter("2/minute")
    async with holding(limiter, "k") as hold:
        assert hold.decision.remaining == 1
    assert await remaining(limiter, "k") == 1


async def test_an_allowed_decision_can_be_held_later(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 1")
    decision = await ask(limiter, "k")
    async with _holding(limiter, decision) as hold:
        assert hold.decision is decision
        assert await remaining(limiter, "k") == 0
    assert await remaining(limiter, "k") == 1


class _holding:  # noqa: N801 - a function in the form of a context manager
    """`limiter.holding(decision)` of either kind."""

    def __init__(self, limiter: AnyLimiter, decision: Decision) -> None:
        self.limiter = limiter
        self.decision = decision

    async def __aenter__(self) -> Hold:
        if isinstance(self.limiter, Limiter):
            self.blocking = self.limiter.holding(self.decision)
            return self.blocking.__enter__()
        self.awaiting = self.limiter.holding(self.decision)
        return await self.awaiting.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        if isinstance(self.limiter, Limiter):
            self.blocking.__exit__(None, None, None)
        else:
            await self.awaiting.__aexit__(None, None, None)


async def test_holding_a_denial_releases_nobody_elses_slot(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 1")
    assert await ask(limiter, "k")
    denied = await ask(limiter, "k")
    async with _holding(limiter, denied):
        pass
    assert await remaining(limiter, "k") == 0


async def test_a_slot_comes_back_after_its_ttl_to_the_microsecond(bench: Bench) -> None:
    limiter = bench.limiter(Concurrency(1, ttl=30))
    held = await ask(limiter, "k")
    assert held.reset_after == 30.0
    bench.clock.advance(microseconds=29_999_999)
    denied = await ask(limiter, "k")
    assert not denied
    assert denied.retry_after_us == 1
    bench.clock.advance(microseconds=1)
    assert await ask(limiter, "k")


async def test_a_held_slot_is_renewed_for_as_long_as_it_is_held(live_bench: Bench) -> None:
    limiter = live_bench.limiter(Concurrency(1, ttl=3))
    async with holding(limiter, "k") as hold:
        first = await peek(limiter, "k")
        expiries = {first.now_us + first.retry_after_us}
        while len(expiries) < 3:  # renewed twice
            await asyncio.sleep(0.02)
            glance = await peek(limiter, "k")
            assert not glance
            expiries.add(glance.now_us + glance.retry_after_us)
        assert not hold.is_lost
    assert await remaining(limiter, "k") == 1


async def is_lost(hold: Hold) -> bool:
    return hold.is_lost


async def test_a_slot_that_somebody_took_away_is_lost_and_says_so_once(
    live_bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = live_bench.limiter(Concurrency(1, ttl=0.09))
    with caplog.at_level(logging.WARNING, "headgate"):
        async with holding(limiter, "job:7") as hold:
            await told(limiter.reset("job:7"))
            await soon(lambda: is_lost(hold), "the holder hears of its loss")
            await asyncio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "headgate: a slot of 'concurrency 1; ttl=90ms' for 'job:7' was lost while held"
    ]


async def test_a_lost_slot_is_not_taken_from_its_new_holder(bench: Bench) -> None:
    limiter = bench.limiter(Concurrency(1, ttl=30))
    async with holding(limiter, "k"):
        bench.clock.advance(seconds=30)
        assert await ask(limiter, "k")
    assert await remaining(limiter, "k") == 0


async def test_a_hold_released_meanwhile_is_not_called_lost(
    live_bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = live_bench.limiter(Concurrency(1, ttl=0.06))
    with caplog.at_level(logging.WARNING, "headgate"):
        for _ in range(30):
            async with holding(limiter, "k"):
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.1)
    assert not [record for record in caplog.records if "lost" in record.getMessage()]


def test_one_daemon_thread_renews_all_holds_of_a_limiter_and_ends_with_the_last() -> None:
    def renewers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "headgate-renewer"]

    assert renewers() == []
    limiter = Limiter(Concurrency(9, ttl=3))
    with limiter.hold("a"), limiter.hold("b"), limiter.hold("c"):
        (thread,) = renewers()
        assert thread.daemon
    thread.join(20)
    assert renewers() == []
    with limiter.hold("a"):
        assert len(renewers()) == 1


async def test_no_task_is_left_behind_by_a_hold() -> None:
    limiter = AsyncLimiter(Concurrency(1, ttl=60))
    async with limiter.hold("k"):
        assert [task.get_name() for task in asyncio.all_tasks()].count("headgate-renewal") == 1
    await asyncio.sleep(0)
    assert [task.get_name() for task in asyncio.all_tasks()].count("headgate-renewal") == 0

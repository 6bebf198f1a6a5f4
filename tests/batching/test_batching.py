"""Coalescing by itself, over batches that the tests hold back and let go, and over a real server where that counts."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import redis

import headgate.batching
from headgate import AsyncLimiter, Decision, Limiter, ManualClock, MemoryStore, StoreOutage, StoreUnavailable
from headgate.batching import MAX_GROUPS, Arrive, AsyncCoalescer, ThreadCoalescer
from headgate.batching import threads as batching_threads
from headgate.batching.threads import _Waiter
from headgate.decision import Answer
from headgate.errors import CostExceedsCapacity, InvalidCost, InvalidKey, StoreTimeout
from headgate.hits import Group, Hit, SingleHit
from headgate.keys import storage_key
from headgate.limits import TokenBucket
from headgate.stores.redis import RedisStore
from tests.servers import eventually
from tests.striking import code_of, each_point

LIMIT = TokenBucket(10, per=60)


def group(key: str, cost: int = 1) -> Group:
    return Group((Hit(LIMIT, key, "n", cost),))


def overdue() -> StoreOutage:
    return StoreTimeout("test", "too late")


def keys_of(batch: Sequence[Group]) -> list[str]:
    return [asked.hits[0].key for asked in batch]


class Gated:
    """A memory store behind a gate that can be closed: batches wait there, and are noted as they set out."""

    def __init__(self) -> None:
        self.store = MemoryStore(ManualClock())
        self.batches: list[Sequence[Group]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.has_set_out = threading.Semaphore(0)
        self.failure: BaseException | None = None
        self.async_gate = asyncio.Event()
        self.async_gate.set()
        self.departures: asyncio.Queue[None] = asyncio.Queue()

    def close(self) -> None:
        """Hold back the batches of tasks."""
        self.async_gate.clear()

    def go(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        self.batches.append(groups)
        self.has_set_out.release()
        assert self.gate.wait(30)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return list(self.store.decide(groups))

    async def go_async(self, groups: Sequence[Group]) -> list[Answer]:
        self.batches.append(groups)
        self.departures.put_nowait(None)
        await self.async_gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return list(self.store.decide(groups))

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        batch = asyncio.get_running_loop().create_task(self.go_async(groups))

        def done(batch: asyncio.Task[list[Answer]]) -> None:
            if not batch.cancelled():
                error = batch.exception()
                arrive(batch.result() if error is None else error if isinstance(error, Exception) else RuntimeError())

        batch.add_done_callback(done)

        def give_up() -> None:
            batch.cancel()

        return give_up


class Threads:
    """Calls a coalescer from threads, one after the other in a known order, while the gate is closed."""

    def __init__(self, gated: Gated, timeout: float = 30.0) -> None:
        self.coalescer = ThreadCoalescer(gated.go, overdue, timeout)
        self.pool = ThreadPoolExecutor(64)

    def send(self, asked: Sequence[Group]) -> object:
        before = len(self.coalescer._waiting)
        future = self.pool.submit(self.coalescer.decide, asked)
        while len(self.coalescer._waiting) == before and not future.done():
            pass  # until it has queued up; the order is the point
        return future


def lead(gated: Gated, threads: Threads, asked: Sequence[Group]) -> object:
    """Start a batch, and return when it is under way."""
    gated.gate.clear()
    future = threads.pool.submit(threads.coalescer.decide, asked)
    assert gated.has_set_out.acquire(timeout=30)
    return future


def answers_of(future: object) -> list[Answer]:
    result: list[Answer] = future.result(timeout=30)  # type: ignore[attr-defined]  # a Future, of either module
    return result


def test_a_single_call_makes_a_batch_of_its_own() -> None:
    gated = Gated()
    coalescer = ThreadCoalescer(gated.go, overdue, 1.0)
    for number in range(3):
        assert coalescer.decide([group(str(number))])
    assert [keys_of(batch) for batch in gated.batches] == [["0"], ["1"], ["2"]]


def test_calls_that_come_during_a_batch_travel_together_in_their_order() -> None:
    gated = Gated()
    threads = Threads(gated)
    first = lead(gated, threads, [group("first")])
    others = [threads.send([group(f"{number}"), group(f"{number}b")]) for number in range(5)]
    gated.gate.set()
    assert len(answers_of(first)) == 1
    for number, other in enumerate(others):
        assert [answer.key for answer in answers_of(other) if isinstance(answer, Decision)] == [
            f"{number}",
            f"{number}b",
        ]
    assert keys_of(gated.batches[0]) == ["first"]
    assert [key for batch in gated.batches[1:] for key in keys_of(batch)] == [
        key for number in range(5) for key in (f"{number}", f"{number}b")
    ]
    assert len(gated.batches) == 2


def test_a_failed_batch_fails_just_its_own_waiters() -> None:
    gated = Gated()
    threads = Threads(gated)
    first = lead(gated, threads, [group("first")])
    others = [threads.send([group(str(number))]) for number in range(3)]
    gated.failure = StoreUnavailable("test", "down")
    gated.gate.set()
    assert isinstance(answers_of(first)[0], StoreUnavailable)
    for other in others:
        assert isinstance(answers_of(other)[0], Decision)


def test_waiters_of_a_failed_batch_get_its_outage() -> None:
    gated = Gated()
    threads = Threads(gated)
    lead(gated, threads, [group("first")])
    others = [threads.send([group(str(number))]) for number in range(3)]
    outage = StoreUnavailable("test", "down")
    batches_before = len(gated.batches)

    def fail_next(groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        gated.batches.append(groups)
        raise outage

    threads.coalescer._round_trip = fail_next
    gated.gate.set()
    for other in others:
        assert answers_of(other) == [outage]
    assert len(gated.batches) == batches_before + 1


def test_a_thread_whose_deadline_passes_in_the_queue_is_never_asked_for() -> None:
    gated = Gated()
    threads = Threads(gated, timeout=0.05)
    first = lead(gated, threads, [group("first")])
    late = threads.send([group("late")])
    assert isinstance(late.exception(timeout=30), StoreTimeout)  # type: ignore[attr-defined]
    gated.gate.set()
    answers_of(first)
    threads.coalescer.decide([group("next")])
    assert [keys_of(batch) for batch in gated.batches] == [["first"], ["next"]]


def test_a_long_queue_is_cut_into_batches_of_bounded_size() -> None:
    gated = Gated()
    threads = Threads(gated)
    lead(gated, threads, [group("first")])
    half = MAX_GROUPS // 2 + 1
    others = [threads.send([group(f"{number}-{i}") for i in range(half)]) for number in range(3)]
    gated.gate.set()
    for other in others:
        assert len(answers_of(other)) == half
    assert max(len(batch) for batch in gated.batches) <= MAX_GROUPS


def test_an_interrupted_leader_hands_over() -> None:
    gated = Gated()
    threads = Threads(gated)
    first = lead(gated, threads, [group("first")])
    other = threads.send([group("other")])
    gated.failure = KeyboardInterrupt()
    gated.gate.set()
    assert isinstance(first.exception(timeout=30), KeyboardInterrupt)  # type: ignore[attr-defined]
    assert isinstance(answers_of(other)[0], Decision)


def test_a_thread_interrupted_just_as_it_is_answered_gives_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interruption(BaseException):
        pass

    class Woken(threading.Event):
        """Wakes the waiter with an exception, as a signal may."""

        def acquire(self, timeout: float = -1) -> bool:
            assert self.wait(30)
            raise Interruption

        def release(self) -> None:
            self.set()

    class InterruptedWaiter(_Waiter):
        def __init__(self, groups: Sequence[Group], thread: int) -> None:
            super().__init__(groups, thread)
            self.woken: Any = Woken()

    gated = Gated()
    threads = Threads(gated)
    first = lead(gated, threads, [group("k", cost=3)])
    monkeypatch.setattr("headgate.batching.threads._Waiter", InterruptedWaiter)
    # Two of them: the second rides in the first's batch, which the first leads.
    leader = threads.send([group("other")])
    waiter = threads.send([group("k", cost=4)])
    gated.gate.set()
    answers_of(first)
    assert isinstance(leader.exception(timeout=30), Interruption)  # type: ignore[attr-defined]
    assert isinstance(waiter.exception(timeout=30), Interruption)  # type: ignore[attr-defined]
    monkeypatch.undo()
    (decision,) = threads.coalescer.decide([group("k", cost=0)])
    assert isinstance(decision, Decision)
    assert decision.remaining == 7


def test_many_threads_share_a_limit_exactly() -> None:
    gated = Gated()
    coalescer = ThreadCoalescer(gated.go, overdue, 30.0)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: coalescer.decide([group("k")])[0], range(400)))
    assert sum(isinstance(answer, Decision) and answer.allowed for answer in answers) == 10


def test_a_forked_child_begins_with_an_empty_queue() -> None:
    gated = Gated()
    coalescer = ThreadCoalescer(gated.go, overdue, 5.0)
    assert coalescer.try_lead()  # as when somebody forks while another thread leads a batch
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        (answer,) = coalescer.decide([group("k")])
        os.write(write, b"answered" if isinstance(answer, Decision) else b"not answered")
        os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"answered"
    os.waitpid(child, 0)
    os.close(read)


async def test_tasks_of_one_round_travel_together() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    answers = await asyncio.gather(*(coalescer.decide([group(str(number))]) for number in range(5)))
    assert [answer.key for (answer,) in answers] == list("01234")
    assert [keys_of(batch) for batch in gated.batches] == [list("01234")]


async def test_tasks_that_come_during_a_batch_travel_in_the_next() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    gated.close()
    first = asyncio.create_task(coalescer.decide([group("first")]))
    await gated.departures.get()
    others = [asyncio.create_task(coalescer.decide([group(str(number))])) for number in range(4)]
    await asyncio.sleep(0)
    gated.async_gate.set()
    await asyncio.gather(first, *others)
    assert [keys_of(batch) for batch in gated.batches] == [["first"], list("0123")]


async def test_a_task_cancelled_in_the_queue_is_never_asked_for() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    gated.close()
    first = asyncio.create_task(coalescer.decide([group("first")]))
    await gated.departures.get()
    gone = asyncio.create_task(coalescer.decide([group("gone")]))
    await asyncio.sleep(0)
    gone.cancel()
    gated.async_gate.set()
    await asyncio.gather(first, gone, return_exceptions=True)
    await coalescer.decide([group("next")])
    assert [keys_of(batch) for batch in gated.batches] == [["first"], ["next"]]


async def test_what_is_admitted_for_a_cancelled_task_is_given_back() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    gated.close()
    gone = asyncio.create_task(coalescer.decide([group("k", cost=4)]))
    await gated.departures.get()
    gone.cancel()
    gated.async_gate.set()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await gated.departures.get()  # of the batch that returns the tokens
    (decision,) = await coalescer.decide([group("k", cost=0)])
    assert isinstance(decision, Decision)
    assert decision.remaining == 10


async def test_a_failed_batch_of_tasks_fails_just_its_own_waiters() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    gated.failure = StoreUnavailable("test", "down")
    with pytest.raises(StoreUnavailable):
        await coalescer.decide([group("a")])
    (answer,) = await coalescer.decide([group("b")])
    assert isinstance(answer, Decision)


async def test_a_fault_of_ours_reaches_the_caller_as_it_is() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    gated.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await coalescer.decide([group("a")])
    assert await coalescer.decide([group("b")])


async def test_a_task_whose_deadline_passes_is_told_so() -> None:
    gated = Gated()
    coalescer = AsyncCoalescer(gated.begin, overdue, 0.01)
    gated.close()
    with pytest.raises(StoreTimeout):
        await coalescer.decide([group("a")])
    gated.async_gate.set()


# Single hits of tasks


class Alike(Gated):
    """A gated store to which single hits that are alike go as keys."""

    def __init__(self) -> None:
        super().__init__()
        self.alike: list[tuple[int, Sequence[str]]] = []
        """The cost and the keys of each such batch."""
        self.coalescer = AsyncCoalescer(self.begin, overdue, 30.0, start_alike=self.begin_alike)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        self.alike.append((single.cost, keys))
        return self.begin([single.group(key) for key in keys], arrive)

    async def ask(self, single: SingleHit, key: str) -> Decision:
        coming = self.coalescer.submit(single, key)
        try:
            return await coming
        except asyncio.CancelledError:
            self.coalescer.give_up(coming)
            raise

    async def remaining(self, key: str) -> int:
        (decision,) = await self.coalescer.decide([group(key, cost=0)])
        return decision.remaining


ONE, FOUR = SingleHit(LIMIT, "n", 1), SingleHit(LIMIT, "n", 4)


async def test_hits_of_one_kind_travel_as_keys() -> None:
    gated = Alike()
    answers = await asyncio.gather(*(gated.ask(ONE, str(number)) for number in range(5)))
    assert [answer.key for answer in answers] == list("01234")
    assert [(cost, list(keys)) for cost, keys in gated.alike] == [(1, list("01234"))]


@pytest.mark.parametrize("knows_alike", [True, False])
async def test_all_others_travel_as_groups_in_the_order_in_which_they_came(knows_alike: bool) -> None:
    gated = Alike()
    if not knows_alike:
        gated.coalescer = AsyncCoalescer(gated.begin, overdue, 30.0)
    answers = await asyncio.gather(
        gated.ask(ONE, "a"),
        gated.ask(FOUR, "a"),
        gated.coalescer.decide([group("a"), group("b")]),
        gated.ask(FOUR, "a"),
    )
    first, second, (third, other), fourth = answers
    assert [decision.remaining for decision in (first, second, third, fourth, other)] == [9, 5, 4, 0, 9]
    assert [keys_of(batch) for batch in gated.batches] == [["a", "a", "a", "b", "a"]]
    assert gated.alike == []


async def test_a_single_hit_cancelled_in_the_queue_is_never_asked_for() -> None:
    gated = Alike()
    gated.close()
    first = asyncio.create_task(gated.ask(ONE, "first"))
    await gated.departures.get()
    gone, next_one = asyncio.create_task(gated.ask(ONE, "gone")), asyncio.create_task(gated.ask(ONE, "next"))
    await asyncio.sleep(0)
    gone.cancel()
    gated.async_gate.set()
    await asyncio.gather(first, gone, next_one, return_exceptions=True)
    assert [keys_of(batch) for batch in gated.batches] == [["first"], ["next"]]


async def test_single_hits_that_were_all_cancelled_hold_up_nobody() -> None:
    gated = Alike()
    gated.close()
    first = asyncio.create_task(gated.ask(ONE, "first"))
    await gated.departures.get()
    gone = asyncio.create_task(gated.ask(ONE, "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    gated.async_gate.set()
    await asyncio.gather(first, gone, return_exceptions=True)
    assert (await gated.ask(ONE, "next")).allowed
    assert [keys_of(batch) for batch in gated.batches] == [["first"], ["next"]]


@pytest.mark.parametrize("rounds", range(12))
async def test_what_a_cancelled_single_hit_took_is_given_back(rounds: int) -> None:
    gated = Alike()
    gone, other = asyncio.create_task(gated.ask(FOUR, "k")), asyncio.create_task(gated.ask(ONE, "k"))
    for _ in range(rounds):
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone, other])
    for _ in range(10):
        await asyncio.sleep(0)
    assert await gated.remaining("k") == (9 if gone.cancelled() else 5)


async def test_a_failed_batch_of_single_hits_fails_just_its_own_waiters() -> None:
    gated = Alike()
    for failure in (StoreUnavailable("test", "down"), ZeroDivisionError()):
        gated.failure = failure
        answers = await asyncio.gather(*(gated.ask(ONE, key) for key in "ab"), return_exceptions=True)
        assert answers == [failure] * 2
    assert await gated.ask(ONE, "b")


async def test_a_single_hit_whose_deadline_passes_is_told_so() -> None:
    gated = Alike()
    gated.coalescer = AsyncCoalescer(gated.begin, overdue, 0.01, start_alike=gated.begin_alike)
    gated.close()
    answers = await asyncio.gather(*(gated.ask(ONE, key) for key in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreTimeout] * 2
    gated.async_gate.set()


async def test_long_queues_of_single_hits_are_cut_into_batches_of_bounded_size() -> None:
    gated = Alike()
    gated.close()
    first = asyncio.create_task(gated.ask(ONE, "first"))
    await gated.departures.get()
    others = [asyncio.create_task(gated.ask(ONE, str(number))) for number in range(3 * MAX_GROUPS)]
    await asyncio.sleep(0)
    gated.async_gate.set()
    await asyncio.gather(first, *others)
    assert [key for batch in gated.batches for key in keys_of(batch)] == ["first", *map(str, range(3 * MAX_GROUPS))]
    assert max(len(batch) for batch in gated.batches) <= MAX_GROUPS


ODD_KEYS = ["plain", "ключ", "a{b}", "50%", "x" * 300, "plain too"]


@pytest.mark.parametrize("limit", ["3/minute", "7/minute; burst=3", "fixed-window 3/day", "sliding-log 3/minute"])
async def test_whatever_is_asked_together_is_answered_as_if_it_were_asked_alone(
    valkey_url: str, prefix: str, limit: str
) -> None:
    async with (
        AsyncLimiter(limit, store=valkey_url, prefix=prefix, timeout=5.0, on_outage="raise") as limiter,
        AsyncLimiter(limit, store=valkey_url, prefix=f"{prefix}alone", timeout=5.0, on_outage="raise") as alone,
    ):
        asked: list[tuple[Any, Any]] = [(key, cost) for cost in (1, 1, 2, 0, 4, True) for key in (*ODD_KEYS, "", "\0")]
        together = await asyncio.gather(*(limiter.try_acquire(*ask) for ask in asked), return_exceptions=True)
        for (key, cost), answer in zip(asked, together, strict=True):
            (expected,) = await asyncio.gather(alone.try_acquire(key, cost), return_exceptions=True)
            if isinstance(expected, Decision):
                assert isinstance(answer, Decision)
                assert (answer.allowed, answer.key, answer.cost) == (expected.allowed, key, cost)
                assert answer.remaining == expected.remaining
            else:
                assert type(answer) is type(expected)
                assert isinstance(answer, (InvalidKey, InvalidCost, CostExceedsCapacity))


async def test_batches_leave_nothing_to_the_garbage_collector(valkey_url: str, prefix: str) -> None:
    async with AsyncLimiter("1000/hour", store=valkey_url, prefix=prefix, timeout=5.0, on_outage="raise") as limiter:
        await asyncio.gather(*(limiter.try_acquire("k") for _ in range(10)))
        left = []
        gc.disable()
        try:
            for _ in range(5):  # other threads of this process may leave something at any time
                gc.collect()
                for _ in range(20):
                    tasks = [asyncio.create_task(limiter.try_acquire("k")) for _ in range(10)]
                    for task in tasks:
                        await task
                    await limiter.peek("k")
                del task, tasks
                left.append(gc.collect())
        finally:
            gc.enable()
        assert min(left) < 20  # some objects of asyncio's own


async def test_each_event_loop_has_batches_of_its_own(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=5.0)

    def in_a_loop_of_its_own() -> int:
        async def ask() -> int:
            limiter = AsyncLimiter("100/hour", store=store, on_outage="raise")
            decisions = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(50)))
            await store.aclose()
            return sum(decision.allowed for decision in decisions)

        return asyncio.run(ask())

    with ThreadPoolExecutor(4) as pool:
        admitted = list(pool.map(lambda _: in_a_loop_of_its_own(), range(4)))
    assert sum(admitted) == 100


async def test_one_callers_foreign_key_fails_no_other(valkey_url: str, prefix: str) -> None:
    with redis.Redis.from_url(valkey_url) as raw:
        raw.hset(storage_key(prefix, "taken", "10/minute", "tb"), "a", "b")
    limiter = AsyncLimiter("10/minute", store=RedisStore(valkey_url, prefix=prefix, timeout=5.0), on_outage="raise")
    answers = await asyncio.gather(
        *(limiter.try_acquire(key) for key in ("a", "taken", "b", "taken", "c")), return_exceptions=True
    )
    assert [type(answer) is StoreUnavailable for answer in answers] == [False, True, False, True, False]
    assert all(answer.remaining == 9 for answer in answers if isinstance(answer, Decision))
    await limiter._store.aclose()


async def test_coalesced_calls_make_far_fewer_batches(valkey_url: str, prefix: str) -> None:
    async with AsyncLimiter("1000/hour", store=valkey_url, prefix=prefix, timeout=5.0, on_outage="raise") as limiter:
        await limiter.try_acquire("warm")
        with redis.Redis.from_url(valkey_url) as raw:
            before = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
            await asyncio.gather(*(limiter.try_acquire("k") for _ in range(200)))
            after = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert after - before <= 4
    assert (await _remaining(valkey_url, prefix)) == 800


async def _remaining(valkey_url: str, prefix: str) -> int:
    async with AsyncLimiter("1000/hour", store=valkey_url, prefix=prefix, timeout=5.0, on_outage="raise") as limiter:
        return (await limiter.peek("k")).remaining


def test_coalescing_can_be_switched_off(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=5.0, coalesce=False)
    limiter = Limiter("5/minute", store=store, on_outage="raise")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: limiter.try_acquire("k").allowed, range(20))) == 5
    store.close()


def test_a_handler_that_interrupts_a_handing_over_waits_for_nobody() -> None:
    """The next leader must not sleep on because whoever was about to wake it asks, too, and waits for a leader."""
    for point in each_point(with_collector=False):
        gated = Gated()
        coalescer = ThreadCoalescer(gated.go, overdue, 30)
        answers: list[list[Answer]] = []
        waiter = threading.Thread(target=lambda: answers.append(coalescer.decide([group("waiter")])))  # noqa: B023
        assert coalescer.try_lead()
        waiter.start()
        eventually(lambda: coalescer._waiting, "it waits")  # noqa: B023  # called at once
        within = code_of(headgate.batching)
        point.striking(coalescer.hand_over, within, lambda: answers.append(coalescer.decide([group("handler")])))  # noqa: B023
        waiter.join(10)
        assert not waiter.is_alive(), point
        assert len(answers) == (2 if point.place else 1)
        assert (
            sorted(key for batch in gated.batches for key in keys_of(batch)) == ["handler", "waiter"][-len(answers) :]
        )


def test_whoever_leads_after_a_while_has_what_is_left_of_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(batching_threads, "time", SimpleNamespace(monotonic=lambda: now_s))
    gated = Gated()
    left: list[float | None] = []

    def go(groups: Sequence[Group], left_s: float | None) -> list[Answer]:
        left.append(left_s)
        return gated.go(groups)

    threads = Threads(gated, timeout=20.0)
    threads.coalescer._round_trip = go
    first = lead(gated, threads, [group("first")])
    waiting = [threads.send([group(str(number))]) for number in range(3)]
    now_s += 15.0
    gated.gate.set()
    for future in (first, *waiting):
        assert isinstance(answers_of(future)[0], Decision)
    assert left == [None, 5.0]

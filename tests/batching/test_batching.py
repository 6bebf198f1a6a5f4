"""Coalescing by itself, over trips that the tests hold back and let go, and over a real server where that counts."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from headgate import AsyncLimiter, Decision, Limiter, ManualClock, MemoryStore, StoreOutage, StoreUnavailable
from headgate.batching import MAX_GROUPS, Arrive, AsyncCoalescer, ThreadCoalescer
from headgate.batching.threads import _Waiter
from headgate.decision import Answer
from headgate.errors import CostExceedsCapacity, InvalidCost, InvalidKey, StoreTimeout
from headgate.hits import Group, Hit, SingleHit
from headgate.keys import storage_key
from headgate.limits import TokenBucket
from headgate.stores.redis import RedisStore

LIMIT = TokenBucket(10, per=60)


def group(key: str, cost: int = 1) -> Group:
    return Group((Hit(LIMIT, key, "n", cost),))


def overdue() -> StoreOutage:
    return StoreTimeout("test", "too late")


def keys_of(trip: Sequence[Group]) -> list[str]:
    return [asked.hits[0].key for asked in trip]


class Road:
    """A memory store at the end of a road that can be closed: trips wait at `gate`, and are noted as they set out."""

    def __init__(self) -> None:
        self.store = MemoryStore(ManualClock())
        self.trips: list[Sequence[Group]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.has_set_out = threading.Semaphore(0)
        self.failure: BaseException | None = None
        self.async_gate = asyncio.Event()
        self.async_gate.set()
        self.departures: asyncio.Queue[None] = asyncio.Queue()

    def close(self) -> None:
        """Hold back the trips of tasks."""
        self.async_gate.clear()

    def go(self, groups: Sequence[Group]) -> list[Answer]:
        self.trips.append(groups)
        self.has_set_out.release()
        assert self.gate.wait(30)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return list(self.store.decide(groups))

    async def go_async(self, groups: Sequence[Group]) -> list[Answer]:
        self.trips.append(groups)
        self.departures.put_nowait(None)
        await self.async_gate.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return list(self.store.decide(groups))

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        trip = asyncio.get_running_loop().create_task(self.go_async(groups))

        def done(trip: asyncio.Task[list[Answer]]) -> None:
            if not trip.cancelled():
                error = trip.exception()
                arrive(trip.result() if error is None else error if isinstance(error, Exception) else RuntimeError())

        trip.add_done_callback(done)

        def give_up() -> None:
            trip.cancel()

        return give_up


class Threads:
    """Calls a coalescer from threads, one after the other in a known order, while the road is closed."""

    def __init__(self, road: Road, timeout: float = 30.0) -> None:
        self.coalescer = ThreadCoalescer(road.go, overdue, timeout)
        self.pool = ThreadPoolExecutor(64)

    def send(self, asked: Sequence[Group]) -> object:
        before = len(self.coalescer._waiting)
        future = self.pool.submit(self.coalescer.decide, asked)
        while len(self.coalescer._waiting) == before and not future.done():
            pass  # until it has queued up; the order is the point
        return future


def lead(road: Road, threads: Threads, asked: Sequence[Group]) -> object:
    """Start a trip, and return when it is under way."""
    road.gate.clear()
    future = threads.pool.submit(threads.coalescer.decide, asked)
    assert road.has_set_out.acquire(timeout=30)
    return future


def answers_of(future: object) -> list[Answer]:
    result: list[Answer] = future.result(timeout=30)  # type: ignore[attr-defined]  # a Future, of either module
    return result


def test_a_lone_call_makes_a_trip_of_its_own() -> None:
    road = Road()
    coalescer = ThreadCoalescer(road.go, overdue, 1.0)
    for number in range(3):
        assert coalescer.decide([group(str(number))])
    assert [keys_of(trip) for trip in road.trips] == [["0"], ["1"], ["2"]]


def test_calls_that_come_during_a_trip_travel_together_in_their_order() -> None:
    road = Road()
    threads = Threads(road)
    first = lead(road, threads, [group("first")])
    others = [threads.send([group(f"{number}"), group(f"{number}b")]) for number in range(5)]
    road.gate.set()
    assert len(answers_of(first)) == 1
    for number, other in enumerate(others):
        assert [answer.key for answer in answers_of(other) if isinstance(answer, Decision)] == [
            f"{number}",
            f"{number}b",
        ]
    assert keys_of(road.trips[0]) == ["first"]
    assert [key for trip in road.trips[1:] for key in keys_of(trip)] == [
        key for number in range(5) for key in (f"{number}", f"{number}b")
    ]
    assert len(road.trips) == 2


def test_a_failed_trip_fails_just_its_own_riders() -> None:
    road = Road()
    threads = Threads(road)
    first = lead(road, threads, [group("first")])
    others = [threads.send([group(str(number))]) for number in range(3)]
    road.failure = StoreUnavailable("test", "down")
    road.gate.set()
    assert isinstance(answers_of(first)[0], StoreUnavailable)
    for other in others:
        assert isinstance(answers_of(other)[0], Decision)


def test_riders_of_a_failed_trip_get_its_outage() -> None:
    road = Road()
    threads = Threads(road)
    lead(road, threads, [group("first")])
    others = [threads.send([group(str(number))]) for number in range(3)]
    outage = StoreUnavailable("test", "down")
    trips_before = len(road.trips)

    def fail_next(groups: Sequence[Group]) -> list[Answer]:
        road.trips.append(groups)
        raise outage

    threads.coalescer._round_trip = fail_next
    road.gate.set()
    for other in others:
        assert answers_of(other) == [outage]
    assert len(road.trips) == trips_before + 1


def test_a_thread_whose_deadline_passes_in_the_queue_is_never_asked_for() -> None:
    road = Road()
    threads = Threads(road, timeout=0.05)
    first = lead(road, threads, [group("first")])
    late = threads.send([group("late")])
    assert isinstance(late.exception(timeout=30), StoreTimeout)  # type: ignore[attr-defined]
    road.gate.set()
    answers_of(first)
    threads.coalescer.decide([group("next")])
    assert [keys_of(trip) for trip in road.trips] == [["first"], ["next"]]


def test_a_long_queue_is_cut_into_trips_of_bounded_size() -> None:
    road = Road()
    threads = Threads(road)
    lead(road, threads, [group("first")])
    half = MAX_GROUPS // 2 + 1
    others = [threads.send([group(f"{number}-{i}") for i in range(half)]) for number in range(3)]
    road.gate.set()
    for other in others:
        assert len(answers_of(other)) == half
    assert max(len(trip) for trip in road.trips) <= MAX_GROUPS


def test_an_interrupted_leader_hands_over() -> None:
    road = Road()
    threads = Threads(road)
    first = lead(road, threads, [group("first")])
    other = threads.send([group("other")])
    road.failure = KeyboardInterrupt()
    road.gate.set()
    assert isinstance(first.exception(timeout=30), KeyboardInterrupt)  # type: ignore[attr-defined]
    assert isinstance(answers_of(other)[0], Decision)


def test_a_thread_interrupted_just_as_it_is_answered_gives_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interruption(BaseException):
        pass

    class Woken(threading.Event):
        """Wakes the rider with an exception, as a signal may."""

        def acquire(self, timeout: float = -1) -> bool:
            assert self.wait(30)
            raise Interruption

        def release(self) -> None:
            self.set()

    class InterruptedWaiter(_Waiter):
        def __init__(self, groups: Sequence[Group], thread: int) -> None:
            super().__init__(groups, thread)
            self.woken: Any = Woken()

    road = Road()
    threads = Threads(road)
    first = lead(road, threads, [group("k", cost=3)])
    monkeypatch.setattr("headgate.batching.threads._Waiter", InterruptedWaiter)
    # Two of them: the second rides in the first's trip, which the first leads.
    leader = threads.send([group("other")])
    rider = threads.send([group("k", cost=4)])
    road.gate.set()
    answers_of(first)
    assert isinstance(leader.exception(timeout=30), Interruption)  # type: ignore[attr-defined]
    assert isinstance(rider.exception(timeout=30), Interruption)  # type: ignore[attr-defined]
    monkeypatch.undo()
    (decision,) = threads.coalescer.decide([group("k", cost=0)])
    assert isinstance(decision, Decision)
    assert decision.remaining == 7


def test_many_threads_share_a_limit_exactly() -> None:
    road = Road()
    coalescer = ThreadCoalescer(road.go, overdue, 30.0)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: coalescer.decide([group("k")])[0], range(400)))
    assert sum(isinstance(answer, Decision) and answer.allowed for answer in answers) == 10


def test_a_forked_child_begins_with_an_empty_queue() -> None:
    road = Road()
    coalescer = ThreadCoalescer(road.go, overdue, 5.0)
    assert coalescer.try_lead()  # as when somebody forks while another thread leads a trip
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
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    answers = await asyncio.gather(*(coalescer.decide([group(str(number))]) for number in range(5)))
    assert [answer.key for (answer,) in answers] == list("01234")
    assert [keys_of(trip) for trip in road.trips] == [list("01234")]


async def test_tasks_that_come_during_a_trip_travel_in_the_next() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    road.close()
    first = asyncio.create_task(coalescer.decide([group("first")]))
    await road.departures.get()
    others = [asyncio.create_task(coalescer.decide([group(str(number))])) for number in range(4)]
    await asyncio.sleep(0)
    road.async_gate.set()
    await asyncio.gather(first, *others)
    assert [keys_of(trip) for trip in road.trips] == [["first"], list("0123")]


async def test_a_task_cancelled_in_the_queue_is_never_asked_for() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    road.close()
    first = asyncio.create_task(coalescer.decide([group("first")]))
    await road.departures.get()
    gone = asyncio.create_task(coalescer.decide([group("gone")]))
    await asyncio.sleep(0)
    gone.cancel()
    road.async_gate.set()
    await asyncio.gather(first, gone, return_exceptions=True)
    await coalescer.decide([group("next")])
    assert [keys_of(trip) for trip in road.trips] == [["first"], ["next"]]


async def test_what_is_admitted_for_a_cancelled_task_is_given_back() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    road.close()
    gone = asyncio.create_task(coalescer.decide([group("k", cost=4)]))
    await road.departures.get()
    gone.cancel()
    road.async_gate.set()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await road.departures.get()  # of the trip that returns the tokens
    (decision,) = await coalescer.decide([group("k", cost=0)])
    assert isinstance(decision, Decision)
    assert decision.remaining == 10


async def test_a_failed_trip_of_tasks_fails_just_its_own_riders() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    road.failure = StoreUnavailable("test", "down")
    with pytest.raises(StoreUnavailable):
        await coalescer.decide([group("a")])
    (answer,) = await coalescer.decide([group("b")])
    assert isinstance(answer, Decision)


async def test_a_fault_of_ours_reaches_the_caller_as_it_is() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    road.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await coalescer.decide([group("a")])
    assert await coalescer.decide([group("b")])


async def test_a_task_whose_deadline_passes_is_told_so() -> None:
    road = Road()
    coalescer = AsyncCoalescer(road.begin, overdue, 0.01)
    road.close()
    with pytest.raises(StoreTimeout):
        await coalescer.decide([group("a")])
    road.async_gate.set()


# Single hits of tasks


class Alike(Road):
    """A road on which single hits of one fare travel as keys."""

    def __init__(self) -> None:
        super().__init__()
        self.alike: list[tuple[int, Sequence[str]]] = []
        """The cost and the keys of each such trip."""
        self.coalescer = AsyncCoalescer(self.begin, overdue, 30.0, start_alike=self.begin_alike)

    def begin_alike(self, fare: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        self.alike.append((fare.cost, keys))
        return self.begin([fare.group(key) for key in keys], arrive)

    async def ask(self, fare: SingleHit, key: str) -> Decision:
        coming = self.coalescer.submit(fare, key)
        try:
            return await coming
        except asyncio.CancelledError:
            self.coalescer.give_up(coming)
            raise

    async def remaining(self, key: str) -> int:
        (decision,) = await self.coalescer.decide([group(key, cost=0)])
        return decision.remaining


ONE, FOUR = SingleHit(LIMIT, "n", 1), SingleHit(LIMIT, "n", 4)


async def test_hits_of_one_fare_travel_as_keys() -> None:
    road = Alike()
    answers = await asyncio.gather(*(road.ask(ONE, str(number)) for number in range(5)))
    assert [answer.key for answer in answers] == list("01234")
    assert [(cost, list(keys)) for cost, keys in road.alike] == [(1, list("01234"))]


@pytest.mark.parametrize("knows_fares", [True, False])
async def test_all_others_travel_as_groups_in_the_order_in_which_they_came(knows_fares: bool) -> None:
    road = Alike()
    if not knows_fares:
        road.coalescer = AsyncCoalescer(road.begin, overdue, 30.0)
    answers = await asyncio.gather(
        road.ask(ONE, "a"), road.ask(FOUR, "a"), road.coalescer.decide([group("a"), group("b")]), road.ask(FOUR, "a")
    )
    first, second, (third, other), fourth = answers
    assert [decision.remaining for decision in (first, second, third, fourth, other)] == [9, 5, 4, 0, 9]
    assert [keys_of(trip) for trip in road.trips] == [["a", "a", "a", "b", "a"]]
    assert road.alike == []


async def test_a_lone_hit_cancelled_in_the_queue_is_never_asked_for() -> None:
    road = Alike()
    road.close()
    first = asyncio.create_task(road.ask(ONE, "first"))
    await road.departures.get()
    gone, next_one = asyncio.create_task(road.ask(ONE, "gone")), asyncio.create_task(road.ask(ONE, "next"))
    await asyncio.sleep(0)
    gone.cancel()
    road.async_gate.set()
    await asyncio.gather(first, gone, next_one, return_exceptions=True)
    assert [keys_of(trip) for trip in road.trips] == [["first"], ["next"]]


async def test_lone_hits_that_were_all_cancelled_hold_up_nobody() -> None:
    road = Alike()
    road.close()
    first = asyncio.create_task(road.ask(ONE, "first"))
    await road.departures.get()
    gone = asyncio.create_task(road.ask(ONE, "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    road.async_gate.set()
    await asyncio.gather(first, gone, return_exceptions=True)
    assert (await road.ask(ONE, "next")).allowed
    assert [keys_of(trip) for trip in road.trips] == [["first"], ["next"]]


@pytest.mark.parametrize("rounds", range(12))
async def test_what_a_cancelled_lone_hit_took_is_given_back(rounds: int) -> None:
    road = Alike()
    gone, other = asyncio.create_task(road.ask(FOUR, "k")), asyncio.create_task(road.ask(ONE, "k"))
    for _ in range(rounds):
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone, other])
    for _ in range(10):
        await asyncio.sleep(0)
    assert await road.remaining("k") == (9 if gone.cancelled() else 5)


async def test_a_failed_trip_of_lone_hits_fails_just_its_own_riders() -> None:
    road = Alike()
    for failure in (StoreUnavailable("test", "down"), ZeroDivisionError()):
        road.failure = failure
        answers = await asyncio.gather(*(road.ask(ONE, key) for key in "ab"), return_exceptions=True)
        assert answers == [failure] * 2
    assert await road.ask(ONE, "b")


async def test_a_lone_hit_whose_deadline_passes_is_told_so() -> None:
    road = Alike()
    road.coalescer = AsyncCoalescer(road.begin, overdue, 0.01, start_alike=road.begin_alike)
    road.close()
    answers = await asyncio.gather(*(road.ask(ONE, key) for key in "ab"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreTimeout] * 2
    road.async_gate.set()


async def test_long_queues_of_lone_hits_are_cut_into_trips_of_bounded_size() -> None:
    road = Alike()
    road.close()
    first = asyncio.create_task(road.ask(ONE, "first"))
    await road.departures.get()
    others = [asyncio.create_task(road.ask(ONE, str(number))) for number in range(3 * MAX_GROUPS)]
    await asyncio.sleep(0)
    road.async_gate.set()
    await asyncio.gather(first, *others)
    assert [key for trip in road.trips for key in keys_of(trip)] == ["first", *map(str, range(3 * MAX_GROUPS))]
    assert max(len(trip) for trip in road.trips) <= MAX_GROUPS


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


async def test_trips_leave_nothing_to_the_garbage_collector(valkey_url: str, prefix: str) -> None:
    async with AsyncLimiter("1000/hour", store=valkey_url, prefix=prefix, timeout=5.0, on_outage="raise") as limiter:
        await asyncio.gather(*(limiter.try_acquire("k") for _ in range(10)))
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                tasks = [asyncio.create_task(limiter.try_acquire("k")) for _ in range(10)]
                for task in tasks:
                    await task
                await limiter.peek("k")
            del task, tasks
            assert gc.collect() < 20  # some objects of asyncio's own
        finally:
            gc.enable()


async def test_each_event_loop_has_trips_of_its_own(valkey_url: str, prefix: str) -> None:
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


async def test_coalesced_calls_make_far_fewer_trips(valkey_url: str, prefix: str) -> None:
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

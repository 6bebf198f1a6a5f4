"""Leases: what is drawn ahead is never too much, goes back, and is reported."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import (
    AsyncLimiter,
    Decision,
    FixedWindow,
    InvalidUse,
    Lease,
    LeaseReport,
    Limit,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from headgate.hits import Group, Hit
from headgate.lease import Leases
from headgate.lease.leases import MAX_KEYS
from headgate.observer import Observer, attach
from headgate.plans.groups import give_back_groups
from headgate.stores.redis import RedisStore
from tests.profiles import quickly
from tests.servers import eventually, own_valkey, soon

PATIENT = 20.0
START_US = 1_800_000_000_000_000


def nothing(key: object, cost: object) -> None:
    """What is left alone."""


class Process:
    """A limiter with leases, by a clock of its own, at some distance from a store."""

    def __init__(self, store: MemoryStore, clock: ManualClock, limit: Limit, lease: Lease, ahead_us: int) -> None:
        self._store, self._clock, self._limit = store, clock, limit
        self.leases = Leases(limit, "n", lease, lambda: clock() + ahead_us)
        self._single = self.leases.single(nothing, nothing)

    def ask(self, cost: int, way_us: int) -> tuple[Decision, int]:
        """The decision, and when it was taken, by the store's clock. A request is under way for `way_us`."""
        leased = self._single("k", cost)
        if leased is not None:
            return leased, self._clock()
        group = Group((Hit(self._limit, "k", "n", cost),))
        draw = self.leases.draw(group)
        self._clock.advance(microseconds=way_us)
        answers = self._store.decide([group] if draw is None else [group, draw.group])
        asked_us = self._clock()
        self._clock.advance(microseconds=way_us)
        if draw is not None:
            self.leases.drawn(draw, answers[1])
        return answers[0], asked_us

    def give_back(self, *, only_idle: bool) -> None:
        self._store.decide(self.leases.returns(only_idle=only_idle))


class Step(NamedTuple):
    later_us: int
    who: int
    action: str
    cost: int
    way_us: int


def steps(limit: Limit) -> st.SearchStrategy[list[Step]]:
    token_us = max(1, limit.period_us // limit.rate)
    moves = st.sampled_from([0, 0, 0, 0, 0, 1, token_us, 3 * token_us, 20 * token_us, limit.period_us])
    actions = st.sampled_from(["ask"] * 12 + ["idle", "return", "crash"])
    ways = st.sampled_from([0, 0, 1, token_us // 2, 2 * token_us])
    step = st.builds(Step, moves, st.integers(0, 2), actions, st.integers(1, 3), ways)
    return st.lists(step, min_size=10, max_size=120)


LIMITS: list[Limit] = [
    TokenBucket(20, per=1),
    TokenBucket(7, per=1, burst=30),
    TokenBucket(1000, per=1, burst=50),
    FixedWindow(40, per=1),
    FixedWindow(40, per="day", tz="Europe/Berlin"),
    SlidingWindow(40, per=1),
]


def check(limit: Limit, admitted: list[tuple[int, int]]) -> None:
    """In every interval, no more than the limit promises."""
    if isinstance(limit, FixedWindow):
        by_window: dict[tuple[int, int], int] = {}
        for at_us, cost in admitted:
            by_window[limit.window(at_us)] = by_window.get(limit.window(at_us), 0) + cost
        assert max(by_window.values(), default=0) <= limit.rate
        return
    for first, (begin_us, _) in enumerate(admitted):
        total = 0
        for at_us, cost in admitted[first:]:
            total += cost
            # capacity + rate * t, in whole numbers
            assert (total - limit.capacity) * limit.period_us <= limit.rate * (at_us - begin_us), admitted


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@settings(max_examples=quickly(60))
@given(data=st.data())
def test_no_more_is_admitted_than_the_limit_lets_through(limit: Limit, data: st.DataObject) -> None:
    """Three who lease from one store, whose clocks are far apart, whose requests are slow, who return what they
    hold at any time, and crash."""
    clock = ManualClock(START_US)
    store = MemoryStore(clock)
    most, life = data.draw(st.sampled_from([None, 1, 5, 50])), data.draw(st.sampled_from([0.05, 1, 30]))
    lease = Lease(max_tokens=most, life=life)
    processes = [Process(store, clock, limit, lease, ahead_us) for ahead_us in (0, -(10**9), 10**12)]
    admitted: list[tuple[int, int]] = []
    for step in data.draw(steps(limit)):
        clock.advance(microseconds=step.later_us)
        process = processes[step.who]
        if step.action == "ask":
            decision, at_us = process.ask(step.cost, step.way_us)
            if decision:
                admitted.append((at_us, step.cost))
        elif step.action == "crash":
            process.leases.forget()
        else:
            process.give_back(only_idle=step.action == "idle")
        report = process.leases.report
        assert min(report) >= 0
        assert report.stranded >= 0
    check(limit, admitted)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_lone_process_in_demand_is_served_mostly_from_here_and_wholly(limit: Limit) -> None:
    clock = ManualClock(START_US)
    store = MemoryStore(clock)
    process = Process(store, clock, limit, Lease(), 0)
    told = [process.ask(1, 0)[0] for _ in range(limit.capacity + 5)]
    assert sum(decision.allowed for decision in told) == limit.capacity
    assert sum(decision.source == "lease" for decision in told) > limit.capacity // 2
    assert [decision.remaining for decision in told if decision.source == "lease"][-1] <= limit.capacity
    assert process.leases.report.held == 0


def test_a_lease_of_a_bucket_melts_as_the_bucket_fills() -> None:
    clock = ManualClock(START_US)
    process = Process(MemoryStore(clock), clock, TokenBucket(10, per=1, burst=100), Lease(max_tokens=10), 0)
    while process.leases.report.held < 5:
        process.ask(1, 0)
    held = process.leases.report.held
    clock.advance(seconds=1000)
    assert process.leases.report.held == 0
    assert process.leases.report.stranded == held
    assert process.leases.report.stranded_share > 0


def test_what_is_left_of_a_window_is_kept_with_what_is_drawn_next() -> None:
    clock = ManualClock(START_US)
    process = Process(MemoryStore(clock), clock, FixedWindow(1000, per=60), Lease(max_tokens=4), 0)
    for _ in range(4):
        process.ask(1, 0)
    report = process.leases.report
    assert report.held >= 1
    process.ask(9, 0)  # more than there is
    after = process.leases.report
    assert after.held == report.held + after.drawn - report.drawn


def test_a_key_that_is_asked_for_once_draws_nothing() -> None:
    clock = ManualClock(START_US)
    process = Process(MemoryStore(clock), clock, TokenBucket(100, per=1), Lease(), 0)
    for _ in range(3):
        process.ask(1, 0)
        clock.advance(seconds=2)
    assert process.leases.report == LeaseReport(0, 0, 0, 0)


# Through limiters


@pytest.fixture
def store(valkey_url: str, prefix: str) -> Iterator[RedisStore]:
    made = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["", "fixed-window ", "sliding-window "])
def test_threads_share_leases_and_admit_no_more_than_there_is(store: RedisStore, kind: str) -> None:
    limiters = [Limiter(f"{kind}1000/day", store=store, lease=True, on_outage="raise", name="n") for _ in range(3)]
    with ThreadPoolExecutor(12) as threads:
        told = list(threads.map(lambda number: limiters[number % 3].try_acquire("k"), range(3_000)))
    for limiter in limiters:
        limiter.close()
    assert sum(map(bool, told)) <= 1000
    assert sum(decision.source == "lease" for decision in told) > 500
    rest = Limiter(f"{kind}1000/day", store=store, name="n", on_outage="raise")
    left = rest.peek("k", 0).remaining
    if kind:
        assert sum(map(bool, told)) + left == 1000  # what was not used has come back whole


async def test_tasks_share_leases_and_give_back_at_the_end(store: RedisStore) -> None:
    async with AsyncLimiter("1000/day", store=store, lease=True, on_outage="raise", name="n") as limiter:
        told = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(50)))
        for _ in range(400):
            told.append(await limiter.try_acquire("k"))
        held = limiter.lease_report.held
        assert held > 0
    assert all(told)
    assert limiter.lease_report.held == 0
    assert limiter.lease_report.returned > 0
    awaiting = AsyncLimiter("1000/day", store=store, name="n")
    assert (await awaiting.peek("k", 0)).remaining == 1000 - 450
    await store.aclose()


async def test_what_is_idle_goes_back_by_itself(store: RedisStore) -> None:
    lease = Lease(life=0.05)
    with Limiter("fixed-window 1000/day", store=store, lease=lease, on_outage="raise", name="sync") as blocking:
        for _ in range(20):
            blocking.try_acquire("k")
        eventually(lambda: blocking.peek("k", 0).remaining == 980, "a thread gives back what is idle")
        eventually(lambda: not any(t.name == "headgate-leases" for t in threading.enumerate()), "and ends")
        assert blocking.lease_report.stranded == 0
    async with AsyncLimiter("fixed-window 1000/day", store=store, lease=lease, name="async") as awaiting:
        for _ in range(20):
            await awaiting.try_acquire("k")

        async def is_back() -> bool:
            return (await awaiting.peek("k", 0)).remaining == 980

        await soon(is_back, "a task gives back what is idle")
    await store.aclose()


def test_refunds_settling_and_waiting_go_with_leases(store: RedisStore) -> None:
    with Limiter("fixed-window 100/day", store=store, lease=True, on_outage="raise") as limiter:
        told = [limiter.try_acquire("k") for _ in range(20)]
        leased = next(decision for decision in told if decision.source == "lease")
        limiter.refund(leased)
        limiter.settle(next(decision for decision in reversed(told) if decision.source == "lease"), 5)
        limiter.acquire("k", timeout=1)
    plain = Limiter("fixed-window 100/day", store=store, on_outage="raise")
    assert plain.peek("k", 0).remaining == 100 - 20 + 1 - 4 - 1


def test_a_bucket_takes_back_only_from_the_last(store: RedisStore) -> None:
    limiter = Limiter("100/day", store=store, lease=True, on_outage="raise", name="n")
    other = Limiter("100/day", store=store, lease=True, on_outage="raise", name="n")
    first = limiter.try_acquire("k", 10)
    other.try_acquire("k", 10)
    limiter.refund(first)  # others may hold leases behind it
    assert other.peek("k", 0).remaining == 80
    last = limiter.try_acquire("k", 10)
    limiter.refund(last)
    assert other.peek("k", 0).remaining == 80
    # So it is too for what is given back for callers that were cancelled.
    for decision in (last, next(one for one in (limiter.try_acquire("k") for _ in range(20)) if one.source == "lease")):
        (group,) = give_back_groups(decision)
        assert group.hits[0].receipt[2] is True
    limiter.close()
    other.close()


async def test_a_task_gives_back_only_the_last_of_a_leased_bucket(store: RedisStore) -> None:
    async with AsyncLimiter("100/day", store=store, lease=True, on_outage="raise") as limiter:
        decisions = await asyncio.gather(*[limiter.try_acquire(f"k{number}") for number in range(3)])
        for decision in decisions:  # as they came, and as they are in another process
            for one in (decision, pickle.loads(pickle.dumps(decision))):
                (group,) = give_back_groups(one)
                assert group.hits[0].receipt[2] is True
    await store.aclose()


async def test_keys_that_are_asked_for_twice_draw_nothing(store: RedisStore) -> None:
    keys = [f"k{number}" for number in range(300)]
    limiter = Limiter("100/day", store=store, lease=True, on_outage="raise")
    async with AsyncLimiter("100/day", store=store, lease=True, on_outage="raise", name="n") as awaited:
        for _ in range(2):
            assert {limiter.try_acquire(key).source for key in keys} == {"store"}
            assert {(await awaited.try_acquire(key)).source for key in keys} == {"store"}
        assert (limiter.lease_report.drawn, awaited.lease_report.drawn) == (0, 0)
        for key in keys:
            limiter.try_acquire(key)
            await awaited.try_acquire(key)
        assert (limiter.lease_report.drawn, awaited.lease_report.drawn) == (600, 600)
    limiter.close()
    await store.aclose()


@pytest.mark.parametrize("limit", LIMITS[::3], ids=str)
def test_keys_take_the_fast_path_of_the_store_until_they_are_in_demand(limit: Limit) -> None:
    clock = ManualClock(START_US)
    store = MemoryStore(clock)
    leases = Leases(limit, "n", Lease(life=1), clock)
    decide = leases.single(store.single(limit, "n"), nothing)
    for _ in range(2):
        decision = decide("k", 1)
        assert decision is not None
        assert decision.source == "store"
    assert decide("k", 1) is None  # now a plan is to draw
    assert decide("another", 1) is not None
    clock.advance(2)  # no longer asked for
    assert decide("k", 1) is not None


def test_a_flood_of_keys_leaves_the_demand_of_those_that_hold_tokens() -> None:
    clock = ManualClock(START_US)
    process = Process(MemoryStore(clock), clock, TokenBucket(1000, per=1), Lease(life=60), 0)
    for _ in range(40):
        process.ask(1, 0)
    drawn = process.leases.report.drawn
    assert drawn >= 30
    ask = process.leases.single(MemoryStore(clock).single(TokenBucket(10), "n"), nothing)
    for number in range(3 * MAX_KEYS):
        ask(f"k{number}", 1)
    while process.leases.report.drawn == drawn:
        process.ask(1, 0)
    assert process.leases.report.drawn >= 2 * drawn


class Told(Observer):
    """Counts the tokens that it is told of."""

    def __init__(self) -> None:
        self.drawn = self.returned = 0

    def lease_drawn(self, limiter: str, key: str, tokens: int) -> None:
        assert (limiter, key) == ("n", "k")
        self.drawn += tokens

    def lease_returned(self, limiter: str, key: str, tokens: int) -> None:
        assert (limiter, key) == ("n", "k")
        self.returned += tokens


def test_observers_are_told_of_what_is_drawn_and_returned(store: RedisStore) -> None:
    told = Told()
    detach = attach(told)
    try:
        limiter = Limiter("1000/day", store=store, lease=True, on_outage="raise", name="n")
        for _ in range(60):
            limiter.try_acquire("k")
        limiter.close()
    finally:
        detach()
    report = limiter.lease_report
    assert (told.drawn, told.returned) == (report.drawn, report.returned)
    assert told.returned > 0


def test_a_draw_takes_nothing_that_a_denied_caller_waits_for() -> None:
    clock = ManualClock(START_US)
    limit = TokenBucket(20, per=1)
    process = Process(MemoryStore(clock), clock, limit, Lease(max_tokens=8), 0)
    admitted = 0
    for _ in range(20):
        decision, _ = process.ask(20, 0)
        admitted += decision.allowed
        clock.advance(microseconds=max(1, decision.retry_after_us))
    assert admitted >= 10
    assert process.leases.report.drawn == 0


@pytest.mark.parametrize("kind", ["", "fixed-window "])
def test_a_reset_ends_what_is_held(store: RedisStore, kind: str) -> None:
    with Limiter(f"{kind}100/day", store=store, lease=True, on_outage="raise", name="n") as limiter:
        for _ in range(11):
            limiter.try_acquire("k")
        assert limiter.lease_report.held > 0
        limiter.reset("k")
        assert limiter.lease_report.held == 0
        other = Limiter(f"{kind}100/day", store=store, on_outage="raise", name="n")
        assert other.try_acquire("k", 100)
        limiter.close()
        assert not other.try_acquire("k")
        assert not limiter.try_acquire("k")


def test_an_event_loop_that_ended_takes_its_returns_with_it(store: RedisStore) -> None:
    limiter = AsyncLimiter("fixed-window 1000/day", store=store, lease=Lease(life=0.05), on_outage="raise")

    async def ask(times: int) -> None:
        for _ in range(times):
            await limiter.try_acquire("k")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask(25))
    returning = limiter._returner.task
    assert returning is not None
    coroutine: Any = returning.get_coro()
    coroutine.close()  # as the garbage collector would, some time
    vars_of: Any = returning
    vars_of._log_destroy_pending = False  # we know
    loop.run_until_complete(store.aclose())
    loop.close()

    async def again() -> None:
        await ask(1_000)
        await soon(is_empty, "what is held goes back in the next loop too")
        await limiter.aclose()
        await store.aclose()

    async def is_empty() -> bool:
        return limiter.lease_report.held == 0

    asyncio.run(again())


def test_a_forked_process_begins_without_leases(store: RedisStore) -> None:
    limiter = Limiter("1000/day", store=store, lease=True, on_outage="raise")
    for _ in range(50):
        limiter.try_acquire("k")
    assert limiter.lease_report.held > 0
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, f"{limiter.lease_report.held} {limiter.try_acquire('k').source}".encode())
        os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"0 store"
    os.waitpid(child, 0)
    os.close(read)
    assert limiter.lease_report.held > 0
    limiter.close()


def test_what_is_held_goes_back_when_the_process_ends(valkey_url: str, prefix: str) -> None:
    program = (
        "from headgate import Limiter\n"
        f"limiter = Limiter('fixed-window 1000/day', store={valkey_url!r}, prefix={prefix!r}, lease=True, timeout=9)\n"
        "for _ in range(50): limiter.try_acquire('k')\n"
        "print(limiter.lease_report.held)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
    with Limiter("fixed-window 1000/day", store=valkey_url, prefix=prefix, timeout=PATIENT) as limiter:
        assert limiter.peek("k", 0).remaining == 950


def test_an_outage_draws_nothing(store: RedisStore) -> None:
    with Limiter("100/minute", store="redis://127.0.0.1:1/0", lease=True, timeout=0.5) as limiter:
        assert [limiter.try_acquire("k").source for _ in range(5)] == ["fail_open"] * 5
        assert limiter.lease_report == LeaseReport(0, 0, 0, 0)


def test_what_cannot_go_back_is_logged_and_lapses(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    with own_valkey() as server:
        limiter = Limiter("fixed-window 1000/day", store=server.url, prefix=prefix, lease=True, on_outage="raise")
        for _ in range(25):
            limiter.try_acquire("k")
    limiter.close()
    assert "could not give back what was leased" in caplog.text
    assert limiter.lease_report.held == 0


def test_in_memory_nothing_is_drawn() -> None:
    limiter = Limiter("100/minute", lease=True)
    assert {limiter.try_acquire("k").source for _ in range(9)} == {"store"}
    assert limiter.lease_report == LeaseReport(0, 0, 0, 0)
    assert limiter.lease_report.stranded_share == 0


@pytest.mark.parametrize(
    ("limit", "lease", "problem"),
    [
        ("sliding-log 5/minute", True, "'sliding-log 5/minute' cannot be leased: only token buckets"),
        ("concurrency 5", Lease(), "cannot be leased"),
        (["5/minute", "9/hour"], True, "a lease goes with a limiter of one limit"),
        ({"user": "5/minute"}, True, "a lease goes with a limiter of one limit"),
        ("5/minute", 1, "lease is True, False or a Lease, not 1"),
        ("5/minute", None, "lease is True, False or a Lease, not None"),
    ],
)
def test_what_cannot_be_leased_is_refused(limit: Any, lease: Any, problem: str) -> None:
    with pytest.raises(InvalidUse, match=problem):
        Limiter(limit, store="redis://localhost", lease=lease)


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"max_tokens": 1.5}, {"max_tokens": True}, {"life": 0}, {"life": 61}, {"life": "1"}]
)
def test_a_lease_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidUse):
        Lease(**options)

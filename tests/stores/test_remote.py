"""What every store over a network needs, over one that answers from memory: with delays, failures, deadlines and
callers who give up, of threads and of tasks.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from headgate import (
    AsyncLimiter,
    Decision,
    InvalidUse,
    Limiter,
    ManualClock,
    MemoryStore,
    StoreOutage,
    StoreTimeout,
    StoreUnavailable,
)
from headgate.breaker import Breaker
from headgate.clock import monotonic_us
from headgate.decision import Answer
from headgate.hits import Group, Hit
from headgate.limits import TokenBucket
from headgate.observer import BreakerState, Observer, attach
from headgate.stores import Store
from headgate.stores.remote import Endpoint, LoopConnection, RemoteStore, Terms
from headgate.stores.sharing import ShareableStore
from headgate.testing import StoreContract, use_clock
from tests.faults.workers import PATIENT
from tests.servers import eventually, soon

LIMIT = TokenBucket(10, per=60)


class Connection:
    """What a loop has open, as far as a fake has anything open."""

    def __init__(self) -> None:
        self.ended = ""

    def close(self) -> None:
        self.ended = "closed"

    def retire(self) -> None:
        self.ended = "retired"

    def retire_soon(self) -> None:
        self.ended = "retired soon"


class Far(Endpoint):
    """A server that answers from memory, if it is told to."""

    def __init__(self, terms: Terms) -> None:
        super().__init__("far://away", terms)
        self._own_clock = ManualClock()
        self.memory = MemoryStore(self._now_us)
        self.batches: list[Sequence[Group]] = []
        self.failure: Exception | None = None
        """What it says instead of an answer."""
        self.gate = threading.Event()
        """Nobody is answered while it is closed."""
        self.gate.set()
        self.opened: list[Connection] = []
        self.is_closed_for_threads = False

    def _now_us(self) -> int:
        return (self.learnt.clock or self._own_clock)()

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        self.batches.append(groups)
        if not self.gate.wait(self.timeout_s):
            raise self.overdue()
        return self._answers(groups)

    async def answer_async(self, groups: Sequence[Group]) -> list[Answer]:
        assert self.connection() is self.opened[-1]
        self.batches.append(groups)
        await soon(self._is_open, "the gate opens")
        return self._answers(groups)

    async def _is_open(self) -> bool:
        return self.gate.is_set()

    def _answers(self, groups: Sequence[Group]) -> list[Answer]:
        if self.failure is not None:
            raise self.failure
        answers: list[Answer] = []
        for group in groups:
            if group.hits[0].key == "foreign":
                outage = StoreUnavailable(self.name, "this key is somebody else's")
                outage.is_of_server = False
                answers.append(outage)
            else:
                answers += self.memory.decide([group])
        return answers

    def open_in_loop(self) -> LoopConnection:
        self.opened.append(Connection())
        return self.opened[-1]

    def close_idle(self) -> None:
        self.is_closed_for_threads = True


class FarStore(RemoteStore):
    """All that the author of a store writes beside an endpoint."""

    def __init__(self, **options: Any) -> None:
        given = {"timeout": PATIENT, "remember_denials": 0, **options}
        terms = Terms(**given)
        self.server = Far(terms)
        super().__init__(self.server, terms, given)


class TestContract(StoreContract):
    """The fake keeps the contract, and so whatever is made of an endpoint does."""

    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        return use_clock(FarStore(remember_denials=1), clock)


class Heard(Observer):
    """What an observer hears of stores."""

    def __init__(self) -> None:
        self.round_trips: list[tuple[str, int, type[StoreOutage] | None]] = []
        self.states: list[BreakerState] = []

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        assert duration_ns >= 0
        self.round_trips.append((store, groups, None if outage is None else type(outage)))

    def breaker_changed(self, store: str, state: BreakerState) -> None:
        assert store == "far://away"
        self.states.append(state)


@contextmanager
def hearing() -> Iterator[Heard]:
    heard = Heard()
    detach = attach(heard)
    try:
        yield heard
    finally:
        detach()


Ask = Callable[..., Awaitable[Decision]]


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks a store for a hit, from a thread or a task."""

    async def blocking(store: Store, key: str = "k", cost: int = 1) -> Decision:
        return await asyncio.to_thread(limiter(store).try_acquire, key, cost)

    async def awaiting(store: Store, key: str = "k", cost: int = 1) -> Decision:
        return await AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise").try_acquire(key, cost)

    return blocking if request.param == "blocking" else awaiting


def limiter(store: Store) -> Limiter:
    return Limiter(LIMIT, store=store, name="n", on_outage="raise")


def group(key: str = "k", cost: int = 1) -> Group:
    return Group((Hit(LIMIT, key, "n", cost),))


async def outage_of(asked: Awaitable[object]) -> StoreOutage:
    with pytest.raises(StoreOutage) as caught:
        await asked
    return caught.value


async def _so(condition: bool) -> bool:
    return condition


async def open_the_breaker(store: FarStore, ask: Ask, failures: int = 5) -> None:
    """Have a server fail so often; it is well again afterwards."""
    store.server.failure = StoreUnavailable("far://away", "down")
    for _ in range(failures):
        await outage_of(ask(store))
    store.server.failure = None
    assert not store.server.circuit.state.is_closed


def by_a_clock(store: FarStore) -> ManualClock:
    """Have a breaker go by a clock of the test's."""
    clock = ManualClock(monotonic_us())
    store.server.circuit._clock = clock
    return clock


# --- going together ---


def test_threads_travel_together() -> None:
    store = FarStore()
    server = store.server
    server.gate.clear()
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(store.decide, [group()])
        eventually(lambda: server.batches, "the first is on its way")
        others = [threads.submit(store.decide, [group()]) for _ in range(19)]
        eventually(lambda: len(server._threads._waiting) == 19, "the others wait")
        server.gate.set()
        assert sum(asked.result()[0].allowed for asked in (first, *others)) == 10
    assert [len(batch) for batch in server.batches] == [1, 19]


async def test_tasks_travel_together() -> None:
    store = FarStore()
    asking = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    decisions = await asyncio.gather(*(asking.try_acquire("k") for _ in range(20)))
    assert sum(decision.allowed for decision in decisions) == 10
    assert [len(batch) for batch in store.server.batches] == [20]


async def test_nobody_travels_with_others_where_that_is_switched_off(ask: Ask) -> None:
    store = FarStore(coalesce=False)
    decisions = await asyncio.gather(*(ask(store) for _ in range(12)))
    assert sum(decision.allowed for decision in decisions) == 10
    assert [len(batch) for batch in store.server.batches] == [1] * 12


async def test_a_denial_is_remembered(ask: Ask) -> None:
    store = FarStore(remember_denials=60)
    await ask(store, cost=10)
    decisions = [await ask(store) for _ in range(5)]
    assert [decision.source for decision in decisions] == ["store", *["memory_of_denial"] * 4]
    limiter(store).reset("k")
    assert (await ask(store)).source == "store"


# --- deadlines and failures ---


async def test_who_gets_no_answer_by_the_deadline_is_told_so(ask: Ask) -> None:
    store = FarStore(timeout=0.02)
    store.server.gate.clear()
    outage = await outage_of(ask(store))
    assert isinstance(outage, StoreTimeout)
    assert str(outage) == "store far://away: no answer within 0.02 s: is the server up and near?"
    store.server.gate.set()
    assert await ask(store)


async def test_a_fault_of_ours_is_no_outage(ask: Ask) -> None:
    store = FarStore(breaker=Breaker(failures=1))
    store.server.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await ask(store)
    store.server.failure = None
    assert await ask(store)


@pytest.mark.parametrize("rounds", range(8))
async def test_what_was_admitted_for_a_cancelled_task_is_given_back(rounds: int) -> None:
    store = FarStore()
    asking = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    task = asyncio.create_task(asking.try_acquire("k", 4))
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    for _ in range(20):
        await asyncio.sleep(0)
    assert (await asking.peek("k", 0)).remaining == (10 if task.cancelled() else 6)


# --- the breaker ---


async def test_while_the_breaker_is_open_nobody_asks_and_nobody_waits(ask: Ask) -> None:
    store = FarStore(timeout=0.01)
    clock = by_a_clock(store)
    store.server.gate.clear()
    while store.server.circuit.state.is_closed:
        # Who gives up at the deadline may be told before the failure is counted: the next call may be refused already.
        assert isinstance(await outage_of(ask(store)), StoreTimeout | StoreUnavailable)
    asked = len(store.server.batches)
    clock.advance(seconds=0.25)
    for _ in range(50):
        outage = await outage_of(ask(store))
        assert str(outage) == "store far://away: its breaker is open, and it is not asked for another 0.250 s"
    assert len(store.server.batches) == asked


async def test_it_closes_at_the_first_success(ask: Ask) -> None:
    store = FarStore()
    clock = by_a_clock(store)
    await open_the_breaker(store, ask)
    clock.advance(seconds=1)
    assert [(await ask(store)).source for _ in range(3)] == ["store"] * 3
    assert store.server.circuit.state.is_closed


async def test_one_caller_probes_and_the_others_do_not_wait_for_it(ask: Ask) -> None:
    store = FarStore()
    clock = by_a_clock(store)
    await open_the_breaker(store, ask)
    clock.advance(seconds=1)
    store.server.gate.clear()
    asked = len(store.server.batches)
    probe = asyncio.ensure_future(ask(store))
    await soon(lambda: _so(len(store.server.batches) > asked), "the probe is under way")
    for _ in range(20):
        assert isinstance(await outage_of(ask(store)), StoreUnavailable)
    assert not probe.done()
    store.server.gate.set()
    assert await probe
    assert await ask(store)
    assert len(store.server.batches) == asked + 2


async def test_a_probe_that_is_cancelled_lets_the_next_one_find_out(ask: Ask) -> None:
    store = FarStore(timeout=0.05)
    clock = by_a_clock(store)
    await open_the_breaker(store, ask)
    clock.advance(seconds=1)
    store.server.gate.clear()
    probe = asyncio.create_task(AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise").try_acquire("k"))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.wait([probe])
    store.server.gate.set()
    # It goes on without the caller, to its end.
    await soon(lambda: _so(store.server.circuit.state.name != "half-open"), "the probe has ended")
    clock.advance(seconds=1)
    assert await ask(store)


def test_a_probe_that_is_interrupted_lets_the_next_one_begin_at_once() -> None:
    store = FarStore(breaker=Breaker(failures=1))
    clock = by_a_clock(store)
    store.server.failure = StoreUnavailable("far://away", "down")
    with pytest.raises(StoreUnavailable):
        store.decide([group()])
    clock.advance(seconds=1)

    class Interruption(BaseException):
        pass

    store.server.failure = Interruption()  # type: ignore[assignment]  # as if a signal had raised it
    with pytest.raises(Interruption):
        store.decide([group()])
    store.server.failure = None
    assert store.decide([group()])


async def test_an_outage_of_one_group_is_no_failure_of_the_server(ask: Ask) -> None:
    store = FarStore(breaker=Breaker(failures=2))
    for _ in range(5):
        outage = await outage_of(ask(store, "foreign"))
        assert outage.problem == "this key is somebody else's"
    assert await ask(store)
    with hearing() as heard:
        await outage_of(ask(store, "foreign"))
    assert heard.round_trips == [("far://away", 1, None)]


async def test_tasks_that_wait_when_it_opens_wait_no_longer() -> None:
    store = FarStore(breaker=Breaker(failures=1))
    server = store.server
    server.gate.clear()
    first = [asyncio.create_task(store.decide_async([group()])) for _ in range(70)]
    for _ in range(3):
        await asyncio.sleep(0)
    later = [asyncio.create_task(store.decide_async([group()])) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(server.batches) == 2
    server.failure = StoreUnavailable("far://away", "down")
    server.gate.set()
    told = await asyncio.gather(*first, *later, return_exceptions=True)
    assert {type(outage) for outage in told} == {StoreUnavailable}
    assert all("breaker is open" in str(outage) for outage in told[70:])
    assert len(server.batches) == 2


def test_threads_that_wait_when_it_opens_wait_no_longer() -> None:
    store = FarStore(breaker=Breaker(failures=1))
    server = store.server
    server.gate.clear()
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(store.decide, [group()])
        eventually(lambda: server.batches, "the first is on its way")
        others = [threads.submit(store.decide, [group()]) for _ in range(19)]
        eventually(lambda: len(server._threads._waiting) == 19, "the others wait")
        server.failure = StoreUnavailable("far://away", "down")
        server.gate.set()
        assert str(first.exception()) == "store far://away: down"
        assert all("breaker is open" in str(asked.exception()) for asked in others)
    assert len(server.batches) == 1


def test_a_round_trip_that_does_not_end_counts_before_it_ends() -> None:
    class Slow(Far):
        def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
            self.batches.append(groups)
            self.gate.wait(PATIENT)  # the bytes come, but slowly
            return self._answers(groups)

    store = FarStore()
    store.server = store._servers = Slow(Terms(remember_denials=0, timeout=0.02, breaker=Breaker(failures=1)))
    store.server.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(store.decide, [group()])
        eventually(lambda: store.server.batches, "it is on its way")
        assert isinstance(threads.submit(store.decide, [group()]).exception(), StoreTimeout)
        with pytest.raises(StoreUnavailable, match="breaker is open"):
            store.decide([group()])
        store.server.gate.set()
        assert first.result()
    assert store.decide([group()])  # it did answer


async def test_it_can_be_switched_off(ask: Ask) -> None:
    store = FarStore(breaker=False)
    store.server.failure = StoreUnavailable("far://away", "down")
    for _ in range(20):
        assert (await outage_of(ask(store))).problem == "down"
    assert len(store.server.batches) == 20


async def test_what_is_given_back_while_it_is_open_is_lost_and_nobody_waits(ask: Ask) -> None:
    store = FarStore()
    spent = limiter(store).try_acquire("k", 4)
    await open_the_breaker(store, ask)
    asked = len(store.server.batches)
    with pytest.raises(StoreUnavailable, match="breaker is open"):
        limiter(store).refund(spent)
    assert len(store.server.batches) == asked


async def test_changes_are_logged_and_observed_once_each(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "headgate")
    store = FarStore()
    clock = by_a_clock(store)
    with hearing() as heard:
        await ask(store)
        await open_the_breaker(store, ask)
        for _ in range(3):
            await outage_of(ask(store))
        store.server.failure = StoreUnavailable("far://away", "down")
        clock.advance(seconds=1)
        await outage_of(ask(store))
        store.server.failure = None
        clock.advance(seconds=1)
        await ask(store)
    assert heard.states == ["open", "half-open", "open", "half-open", "closed"]
    assert heard.round_trips == [
        ("far://away", 1, None),
        *[("far://away", 1, StoreUnavailable)] * 6,
        ("far://away", 1, None),
    ]
    told = [(one.levelname, one.getMessage()) for one in caplog.records if one.module == "endpoint"]
    half_open = ("DEBUG", "headgate: store far://away: its breaker is half-open")
    assert told == [
        ("WARNING", "headgate: store far://away: its breaker opens (Breaker(failures=5, open_for=0.5))"),
        half_open,
        ("DEBUG", "headgate: store far://away: its breaker is open"),
        half_open,
        ("WARNING", "headgate: store far://away answers again: its breaker is closed"),
    ]


async def test_observers_hear_of_deadlines(ask: Ask) -> None:
    store = FarStore(timeout=0.01)
    store.server.gate.clear()
    with hearing() as heard:
        await outage_of(ask(store))
        await soon(lambda: _so(bool(heard.round_trips)), "the round trip is given up")
    assert heard.round_trips == [("far://away", 1, StoreTimeout)]


async def test_the_size_of_a_batch_is_heard() -> None:
    store = FarStore()
    asking = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    with hearing() as heard:
        await asyncio.gather(*(asking.try_acquire(str(number)) for number in range(20)))
    assert heard.round_trips == [("far://away", 20, None)]


# --- closing ---


async def test_what_a_loop_has_open_is_closed_with_it() -> None:
    store = FarStore()
    assert isinstance(store, ShareableStore)
    server = store.server
    await store.decide_async([group()])
    await store.close_loop()
    await store.decide_async([group()])
    await asyncio.to_thread(store.close_loops)
    await store.decide_async([group()])
    assert not server.is_closed_for_threads
    await store.aclose()
    await store.decide_async([group()])
    server.retire()
    await store.decide_async([group()])
    assert [one.ended for one in server.opened] == ["retired", "retired soon", "closed", "retired soon", "retired"]
    assert server.is_closed_for_threads


def test_a_store_that_cannot_be_asked_in_an_event_loop_says_so() -> None:
    store = FarStore()
    store.serves_event_loops = False
    assert store.submitting(LIMIT, "n") is None
    with pytest.raises(InvalidUse, match="it serves Limiter only"):
        asyncio.run(store.decide_async([group()]))


@pytest.mark.parametrize(
    "unusable",
    [
        *({"remember_denials": value} for value in (-1, 61, "1", True)),
        *({"breaker": value} for value in (True, None, 5, "on")),
        *({"timeout": value} for value in (0, -1, True, "1", float("inf"), float("nan"))),
    ],
)
def test_options_that_are_not_usable_are_refused(unusable: dict[str, Any]) -> None:
    with pytest.raises(InvalidUse, match=f"{next(iter(unusable))} is a "):
        FarStore(**unusable)


def test_a_copy_that_travels_is_made_on_the_same_terms() -> None:
    store = FarStore(timeout=3, breaker=Breaker(failures=7))
    copied = pickle.loads(pickle.dumps(store))
    assert (copied.timeout, copied.server.circuit._failures, repr(copied)) == (3, 7, "<FarStore far://away>")
    assert copy.copy(store)._servers is store._servers

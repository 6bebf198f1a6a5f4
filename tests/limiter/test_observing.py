"""Observers hear of every decision, whichever way it came, of outages, and of nothing once they are detached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    Decision,
    InvalidUse,
    Lease,
    Limiter,
    ManualClock,
    MemoryStore,
    Penalty,
    StoreOutage,
    StoreTimeout,
)
from headgate.limiter import limiters
from headgate.observer import Observer, attach
from headgate.testing import deterministic
from tests.limiter.bench import Bench, FailingStore, ask, holding, told
from tests.servers import PATIENCE, soon


class Notes(Observer):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.decisions: list[tuple[str, Decision, int]] = []
        self.others: list[tuple[Any, ...]] = []

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        self.decisions.append((limiter, decision, duration_ns))

    def outage_began(self, limiter: str, outage: StoreOutage) -> None:
        self.others.append(("began", limiter, type(outage)))

    def outage_ended(self, limiter: str) -> None:
        self.others.append(("ended", limiter))

    @property
    def sources(self) -> list[tuple[str, bool]]:
        return [(decision.source, decision.allowed) for _, decision, _ in self.decisions]


@pytest.fixture
def notes() -> Iterator[Notes]:
    notes = Notes()
    detach = attach(notes)
    yield notes
    detach()


async def test_each_decision_is_told_with_its_limiter_and_how_long_it_took(bench: Bench, notes: Notes) -> None:
    for limiter in (bench.limiter("2/hour", name="api"), bench.limiter({"a": "2/hour"}, name="api")):
        key: Any = "k" if limiter.limits.keys() == {"api"} else {"a": "k"}
        expected = [await ask(limiter, key) for _ in range(3)]
        assert [decision for _, decision, _ in notes.decisions] == expected
        assert {name for name, _, _ in notes.decisions} == {"api"}
        assert all(duration_ns > 0 for _, _, duration_ns in notes.decisions)
        notes.decisions.clear()


async def test_waiting_and_peeking_are_told_and_giving_back_is_not(bench: Bench, notes: Notes) -> None:
    limiter = bench.limiter("2/hour")
    decision = await told(limiter.acquire("k"))
    await told(limiter.peek("k"))
    await told(limiter.refund(decision))
    await told(limiter.settle(await ask(limiter, "k", 2), 1))
    await told(limiter.reset("k"))
    assert [decision.group.action for _, decision, _ in notes.decisions] == ["spend", "peek", "spend"]


def test_an_observer_leaves_the_fast_path_the_fast_path(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter("2/hour", store=MemoryStore(ManualClock()))
    told_of: list[Decision] = []
    heard = Limiter("2/hour", store=MemoryStore(ManualClock()), on_decision=told_of.append)
    monkeypatch.setattr(limiters, "drive", None)
    monkeypatch.setattr(MemoryStore, "decide", None)
    for one in (limiter, heard):
        assert [bool(one.try_acquire("k")) for _ in range(3)] == [True, True, False]
    assert (len(notes.decisions), len(told_of)) == (6, 3)


async def test_denials_from_memory_and_leased_tokens_are_told_as_such(
    valkey_url: str, prefix: str, notes: Notes
) -> None:
    options: dict[str, Any] = {"store": valkey_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    with Limiter("1/hour", **options) as limiter:
        for _ in range(3):
            limiter.try_acquire("k")
    assert notes.sources == [("store", True), ("store", False), ("memory_of_denial", False)]
    notes.decisions.clear()
    async with AsyncLimiter("1000/hour", name="leased", lease=Lease(max_tokens=10), **options) as leasing:
        for _ in range(20):
            await leasing.try_acquire("k")
    assert len(notes.sources) == 20  # what is drawn ahead is no request
    assert ("lease", True) in notes.sources


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_an_outage_is_told_when_it_begins_and_when_it_is_over(kind: Any, notes: Notes) -> None:
    store = FailingStore()
    limiter, other = kind("9/hour", store=store, name="api"), kind("9/hour", store=store, name="other")
    for store.is_down in (False, True, True, False, False):
        await ask(limiter, "k")
    assert notes.sources == [
        ("store", True),
        ("fail_open", True),
        ("fail_open", True),
        ("store", True),
        ("store", True),
    ]
    assert notes.others == [("began", "api", StoreTimeout), ("ended", "api")]
    store.is_down = True
    await ask(other, "k")
    assert notes.others[2:] == [("began", "other", StoreTimeout)]


def test_a_counterpart_hears_that_an_outage_is_over() -> None:
    store = FailingStore()
    limiter = Limiter("9/hour", store=store)
    other = limiter._counterpart(Limiter)
    store.is_down = True
    assert limiter.try_acquire("k").source == "fail_open"
    store.is_down = False
    assert other.try_acquire("k").source == "store"
    assert not limiter._parts.outage_rule.is_out


async def test_a_detached_observer_hears_nothing(bench: Bench) -> None:
    notes, limiter = Notes(), bench.limiter("9/hour")
    for _ in range(2):
        detach = attach(notes)
        await ask(limiter, "k")
        detach()
        detach()
        await ask(limiter, "k")
    assert len(notes.decisions) == 2


def test_what_an_observer_raises_changes_nothing(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
            raise KeyError(limiter)

    detach = attach(Broken())
    later = Notes()
    detach_later = attach(later)
    assert Limiter("9/hour").try_acquire("k")
    detach()
    detach_later()
    assert len(later.decisions) == len(notes.decisions) == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "failed; what it was told stands" in record.getMessage()


@pytest.mark.parametrize("one", [None, print, Observer, object()])
def test_what_is_no_observer_is_refused(one: Any) -> None:
    with pytest.raises(InvalidUse, match="an observer is an instance of a subclass of Observer, not"):
        attach(one)


class Blocks(Observer):
    """Writes down what it hears of waits, slots and failures."""

    def __init__(self) -> None:
        self.decisions: list[bool] = []
        self.waits: list[tuple[str, bool, int]] = []
        self.slots: list[tuple[str, str, str, int]] = []
        self.failures: list[str] = []

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        self.decisions.append(decision.allowed)

    def failed(self, limiter: str, outage: StoreOutage) -> None:
        self.failures.append(limiter)

    def waited(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        self.waits.append((limiter, decision.allowed, duration_ns))

    def slots_taken(self, limiter: str, limit: str, slots: int) -> None:
        self.slots.append(("taken", limiter, limit, slots))

    def slots_released(self, limiter: str, limit: str, slots: int) -> None:
        self.slots.append(("released", limiter, limit, slots))


@pytest.fixture
def blocks() -> Iterator[Blocks]:
    blocks = Blocks()
    detach = attach(blocks)
    yield blocks
    detach()


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("limit", ["1/minute", "fixed-window 1/minute", "sliding-log 1/minute"])
async def test_a_wait_is_told_once_and_decided_once_however_often_it_is_asked(
    kind: Any, limit: str, blocks: Blocks
) -> None:
    with deterministic() as clock:
        clock.set(1_800_000_000_000_000)
        for limits in (limit, [limit, "9/hour"]):
            limiter = kind(limits, name="api")
            await told(limiter.acquire("k"))
            await told(limiter.acquire("k"))
            with pytest.raises(AcquireTimeout):
                await told(limiter.acquire("k", timeout=1))
            assert blocks.decisions == [True, True, False]
            (first, second, third) = blocks.waits
            assert first == ("api", True, 0)
            assert second[:2] == ("api", True)
            assert 59_000_000_000 < second[2] < 61_000_000_000
            assert third == ("api", False, 0)
            blocks.decisions.clear()
            blocks.waits.clear()
            clock.advance(seconds=7200)


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_a_denial_that_a_penalty_counts_in_the_end_is_decided_once(kind: Any, blocks: Blocks) -> None:
    limiter = kind({"login": "fixed-window 1/hour", "block": Penalty(5, per=60, block=60)}, name="web")
    keys = {"login": "k", "block": "k"}
    await told(limiter.try_acquire(keys))
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire(keys, timeout=0.001))
    assert blocks.decisions == [True, False]
    assert [(name, allowed) for name, allowed, _ in blocks.waits] == [("web", False)]


async def test_a_wait_that_is_cancelled_is_told_to_nobody(blocks: Blocks) -> None:
    limiter = AsyncLimiter("1/hour")
    await limiter.try_acquire("k")
    waiting = asyncio.create_task(limiter.acquire("k"))

    async def waits() -> bool:
        return len(blocks.decisions) == 2

    await soon(waits, "the task waits")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert blocks.waits == []


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_slots_are_told_while_a_block_lasts(kind: Any, blocks: Blocks) -> None:
    jobs = kind({"user": "concurrency 3", "all": "concurrency 9", "rate": "9/hour"}, name="jobs")
    keys = {"user": "a", "all": "*", "rate": "a"}
    taken = [("taken", "jobs", "user", 1), ("taken", "jobs", "all", 1)]
    async with holding(jobs, keys):
        assert blocks.slots == taken
    assert blocks.slots == [*taken, ("released", "jobs", "user", 1), ("released", "jobs", "all", 1)]
    blocks.slots.clear()
    with pytest.raises(ZeroDivisionError):
        async with holding(kind("concurrency 5", name="one"), "k", 2):
            raise ZeroDivisionError
    assert blocks.slots == [("taken", "one", "one", 2), ("released", "one", "one", 2)]


async def test_only_who_heard_of_a_slot_hears_of_its_end(blocks: Blocks) -> None:
    limiter, late = Limiter("concurrency 5"), Blocks()
    gone = Blocks()
    detach_gone = attach(gone)
    with limiter.hold("k"):
        detach_late = attach(late)
        detach_gone()
    detach_late()
    assert [event for event, *_ in blocks.slots] == ["taken", "released"]
    assert [event for event, *_ in gone.slots] == ["taken"]
    assert late.slots == []


def test_a_limiter_without_slots_holds_none(blocks: Blocks) -> None:
    with Limiter("5/hour").hold("k"):
        pass
    assert blocks.slots == []


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
async def test_a_request_that_fails_is_told_and_what_gives_back_is_none(kind: Any, blocks: Blocks) -> None:
    store = FailingStore()
    limiter = kind("9/hour", store=store, name="api", on_outage="raise")
    decision = await ask(limiter, "k")
    store.is_down = True
    for method in (limiter.try_acquire, limiter.acquire):
        with pytest.raises(StoreTimeout):
            await told(method("k"))
    assert blocks.failures == ["api", "api"]
    for method, argument in ((limiter.refund, decision), (limiter.reset, "k")):
        with pytest.raises(StoreTimeout):
            await told(method(argument))
    assert blocks.failures == ["api", "api"]

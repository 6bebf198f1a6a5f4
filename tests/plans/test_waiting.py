"""The plan of `acquire`: whom it asks, how long it sleeps, and that no order of events breaks a limit or a promise."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headgate.algorithms import MAX_SPAN_US
from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.drive import Plan, drive
from headgate.errors import AcquireTimeout, InvalidUse, StoreUnavailable
from headgate.hits import Group, Hit
from headgate.limiter.outage import OutageRule
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.plans import waiting
from headgate.plans.commands import Ask, Pause
from headgate.plans.groups import give_back_groups
from headgate.stores.memory import MemoryStore
from tests.plans.exploring import Choose, explore

SECOND_US = 1_000_000
Acquire = Plan[Ask | Pause, Decision]


class World:
    """A memory store, and a clock that pauses move on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.pauses_us: list[int] = []
        self.asked: list[str] = []

    def send(self, command: Ask | Pause) -> Any:
        if isinstance(command, Pause):
            self.pauses_us.append(command.duration_us)
            self.clock.advance(microseconds=command.duration_us)
            return command.duration_us
        self.asked += [group.action for group in command.groups]
        return self.store.decide(command.groups)

    def run(self, plan: Acquire, send: Callable[[Ask | Pause], Any] | None = None) -> Decision:
        return drive(plan, send or self.send)


def hit(limit: Limit, name: str = "name", cost: int = 1, holder: str = "holder") -> Hit:
    return Hit(limit, "key", name, cost, holder)


def acquire(*hits: Hit, timeout: float | None = None, jitter: float = 0.0) -> Acquire:
    timeout_us = MAX_SPAN_US if timeout is None else round(timeout * SECOND_US)
    return waiting.acquire(Group(hits), timeout_us, timeout, lambda: jitter)


@pytest.fixture
def world() -> World:
    return World()


# Token buckets: one question, one sleep


def test_who_may_go_does_not_sleep(world: World) -> None:
    assert world.run(acquire(hit(TokenBucket(1, per=60))))
    assert world.pauses_us == []


def test_a_token_bucket_is_asked_once_and_slept_for_once(world: World) -> None:
    for _ in range(4):
        assert world.run(acquire(hit(TokenBucket(1, per=60)), timeout=60))
    assert world.asked == ["spend"] * 4
    assert world.pauses_us == [60 * SECOND_US] * 3


def test_a_turn_that_would_come_too_late_is_refused_at_once(world: World) -> None:
    world.run(acquire(hit(TokenBucket(1, per=60))))
    with pytest.raises(AcquireTimeout) as raised:
        world.run(acquire(hit(TokenBucket(1, per=60)), timeout=59.999999))
    assert raised.value.decision.retry_after_us == 60 * SECOND_US
    assert raised.value.timeout == 59.999999
    assert world.pauses_us == []
    assert world.run(acquire(hit(TokenBucket(1, per=60)), timeout=60)).wait_us == 60 * SECOND_US


def test_without_time_to_wait_nobody_sleeps(world: World) -> None:
    for limit in (TokenBucket(1), FixedWindow(1), SlidingWindow(1), SlidingLog(1), Concurrency(1)):
        assert world.run(acquire(hit(limit, f"{limit}"), timeout=0))
        with pytest.raises(AcquireTimeout):
            world.run(acquire(hit(limit, f"{limit}", holder="another"), timeout=0))
    assert world.pauses_us == []


def test_a_sleep_that_was_too_short_is_continued(world: World) -> None:
    def send(command: Ask | Pause) -> Any:
        if isinstance(command, Pause):
            return world.send(Pause(-(-command.duration_us // 2)))
        return world.send(command)

    world.run(acquire(hit(TokenBucket(1, per=1))))
    began_us = world.clock()
    assert world.run(acquire(hit(TokenBucket(1, per=1))), send)
    assert world.clock() - began_us == SECOND_US


# Windows and slots: asked again


@pytest.mark.parametrize("limit", [FixedWindow(2, per=60), SlidingWindow(2, per=60), SlidingLog(2, per=60)], ids=str)
def test_a_window_that_admits_makes_nobody_sleep(world: World, limit: Limit) -> None:
    for _ in range(2):
        assert world.run(acquire(hit(limit)))
    assert world.pauses_us == []


@pytest.mark.parametrize("limit", [FixedWindow(1, per=60), SlidingWindow(1, per=60), SlidingLog(1, per=60)], ids=str)
def test_a_full_window_is_asked_again_at_the_instant_it_named(world: World, limit: Limit) -> None:
    world.run(acquire(hit(limit)))
    denied = world.store.decide([Group((hit(limit),), 0, "peek")])[0]
    assert world.run(acquire(hit(limit)))
    assert world.asked == ["spend"] * 3
    assert world.pauses_us == [denied.retry_after_us]


@pytest.mark.parametrize(("period", "spread_us"), [(60, 50_000), (1, 50_000), (0.1, 10_000)])
def test_waiters_for_a_window_come_back_a_little_apart(world: World, period: float, spread_us: int) -> None:
    limit = FixedWindow(1, per=period)
    world.run(acquire(hit(limit)))
    world.run(acquire(hit(limit), jitter=0.5))
    assert world.pauses_us == [round(period * SECOND_US) + spread_us // 2]


def test_a_window_that_opens_too_late_is_refused_at_once(world: World) -> None:
    world.run(acquire(hit(FixedWindow(1, per=60))))
    with pytest.raises(AcquireTimeout):
        world.run(acquire(hit(FixedWindow(1, per=60)), timeout=59))
    assert world.pauses_us == []


def test_time_that_was_slept_is_no_longer_there_to_wait(world: World) -> None:
    limit = FixedWindow(1, per=60)
    world.run(acquire(hit(limit)))

    def send(command: Ask | Pause) -> Any:
        reply = world.send(command)
        if isinstance(command, Pause):  # somebody else was quicker
            world.store.decide([Group((hit(limit),))])
        return reply

    with pytest.raises(AcquireTimeout):
        world.run(acquire(hit(limit), timeout=150), send)
    assert world.pauses_us == [60 * SECOND_US, 60 * SECOND_US]


def test_slots_are_asked_for_ever_more_seldom(world: World) -> None:
    world.run(acquire(hit(Concurrency(1, ttl=600))))
    with pytest.raises(AcquireTimeout):
        world.run(acquire(hit(Concurrency(1, ttl=600), holder="b"), timeout=10, jitter=1.0))
    assert world.pauses_us[:8] == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 250_000, 250_000]
    assert sum(world.pauses_us) == 10 * SECOND_US


def test_slots_are_asked_for_at_random_times(world: World) -> None:
    world.run(acquire(hit(Concurrency(1, ttl=1))))
    world.run(acquire(hit(Concurrency(1, ttl=1), holder="b"), jitter=0.0))
    assert world.pauses_us[:3] == [2_500, 5_000, 10_000]


def test_a_group_takes_nothing_before_all_of_it_may_go(world: World) -> None:
    bucket, slots = hit(TokenBucket(1, per=60)), hit(Concurrency(1, ttl=6), "slots")
    world.run(acquire(bucket))
    waiter = Caller(world, acquire(bucket, slots))
    waiter.go_on()
    assert waiter.is_sleeping
    assert world.store.decide([Group((slots,), 0, "peek")])[0]
    run_all(world, [waiter], lambda _: 0)
    assert waiter.decision is not None
    assert waiter.decision.wait_us == 0
    assert not world.store.decide([Group((slots._replace(holder="b"),), 0, "peek")])[0]


def test_an_outage_is_waited_out_as_long_as_there_is_time() -> None:
    closed = OutageRule("closed", "name")

    def send(command: Ask | Pause) -> Any:
        if isinstance(command, Pause):
            return command.duration_us
        return [closed.decide(group, StoreUnavailable("here", "gone")) for group in command.groups]

    with pytest.raises(AcquireTimeout):
        World().run(acquire(hit(TokenBucket(1)), timeout=3), send)


# Interruptions


def interrupted(plan: Acquire, world: World, kind: type[BaseException]) -> None:
    """Run a plan up to its first sleep, and interrupt it there."""

    def send(command: Ask | Pause) -> Any:
        if isinstance(command, Pause):
            raise kind
        return world.send(command)

    with pytest.raises(kind):
        world.run(plan, send)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError, SystemExit])
def test_an_interrupted_sleep_gives_the_place_back(world: World, kind: type[BaseException]) -> None:
    one = hit(TokenBucket(1, per=60))
    world.run(acquire(one))
    interrupted(acquire(one), world, kind)
    assert world.asked == ["spend", "spend", "give_back"]
    assert world.run(acquire(one)).wait_us == 60 * SECOND_US


def test_an_interrupted_group_gives_all_of_its_hits_back(world: World) -> None:
    hits = [
        hit(TokenBucket(1, per=60), "bucket"),
        hit(TokenBucket(10, per=60), "larger"),
        hit(FixedWindow(5, per=600), "window"),
        hit(SlidingLog(5, per=600), "log"),
        hit(Concurrency(5, ttl=600), "slots"),
    ]
    world.run(acquire(*hits))
    before = [world.store.decide([Group((one,), 0, "peek")])[0].facts for one in hits]
    interrupted(acquire(*[one._replace(holder="b") for one in hits]), world, KeyboardInterrupt)
    assert [world.store.decide([Group((one,), 0, "peek")])[0].facts for one in hits] == before


def test_tokens_that_were_given_back_cannot_be_given_back_again(world: World) -> None:
    one = hit(TokenBucket(1, per=60))
    world.run(acquire(one))
    admitted: list[Decision] = []

    def send(command: Ask | Pause) -> Any:
        if isinstance(command, Pause):
            raise KeyboardInterrupt
        answers = world.send(command)
        admitted.extend(answers[:1])
        return answers

    with pytest.raises(KeyboardInterrupt):
        world.run(acquire(one), send)
    with pytest.raises(InvalidUse):
        admitted[0].claim()


def test_a_window_that_was_waited_for_has_nothing_to_give_back(world: World) -> None:
    one = hit(FixedWindow(1, per=60))
    world.run(acquire(one))
    interrupted(acquire(one), world, KeyboardInterrupt)
    assert world.asked == ["spend", "spend"]


def test_a_plan_that_is_dropped_in_its_sleep_just_ends(world: World) -> None:
    one = hit(TokenBucket(1, per=60))
    world.run(acquire(one))
    plan = acquire(one)
    question = next(plan)
    assert isinstance(plan.send(world.send(question)), Pause)
    plan.close()


# Several at once


class Caller:
    """A plan in a world: it asks, it sleeps, it may be interrupted while it sleeps, and at last it is done."""

    def __init__(self, world: World, plan: Acquire) -> None:
        self._world = world
        self._plan = plan
        self.command: Ask | Pause | None = next(plan)
        self.wakes_us = 0
        self.decision: Decision | None = None
        self.is_interrupted = False

    @property
    def is_asking(self) -> bool:
        return isinstance(self.command, Ask)

    @property
    def is_sleeping(self) -> bool:
        return isinstance(self.command, Pause)

    def go_on(self) -> None:
        """Get the answer, or wake up."""
        command = self.command
        if isinstance(command, Ask):
            reply: object = self._world.store.decide(command.groups)
        else:
            assert isinstance(command, Pause)
            reply = command.duration_us
        self._advance(lambda: self._plan.send(reply))

    def interrupt(self) -> None:
        self.is_interrupted = True
        self._advance(lambda: self._plan.throw(KeyboardInterrupt()))

    def _advance(self, step: Callable[[], Ask | Pause]) -> None:
        try:
            self.command = step()
        except StopIteration as done:
            self.command, self.decision = None, done.value
        except (AcquireTimeout, KeyboardInterrupt):
            self.command = None
        else:
            if isinstance(self.command, Pause):
                self.wakes_us = self._world.clock() + self.command.duration_us


def run_all(world: World, callers: Sequence[Caller], choose: Choose, *, interrupts: int = 0) -> None:
    """Let the callers go on in some order. Time stands still while somebody has something to do."""
    while active := [caller for caller in callers if caller.command is not None]:
        ready = [caller for caller in active if caller.is_asking or caller.wakes_us <= world.clock()]
        sleeping = [caller for caller in active if caller.is_sleeping and not caller.is_interrupted]
        deeds: list[Callable[[], None]] = [caller.go_on for caller in ready]
        if interrupts:
            deeds += [caller.interrupt for caller in sleeping]
        if not ready:
            deeds.append(functools.partial(world.clock.set, min(caller.wakes_us for caller in active)))
        before = [caller.is_interrupted for caller in callers]
        deeds[choose(len(deeds))]()
        interrupts -= before != [caller.is_interrupted for caller in callers]


def turns_us(callers: Sequence[Caller]) -> list[int]:
    """The turns of those who got one, in order."""
    decisions = [caller.decision for caller in callers if caller.decision is not None]
    return sorted(decision.now_us + decision.wait_us for decision in decisions)


@pytest.mark.parametrize(
    ("timeout", "served"), [(None, [0, 0, 10, 20]), (15.0, [0, 0, 10]), (0.0, [0, 0])], ids=["forever", "15 s", "none"]
)
def test_in_whatever_order_they_come_and_sleep_waiters_keep_the_limit(timeout: float | None, served: list[int]) -> None:
    limit = TokenBucket(1, per=10, burst=2)

    def run(choose: Choose) -> None:
        world = World()
        began_us = world.clock()
        callers = [Caller(world, acquire(hit(limit), timeout=timeout)) for _ in range(4)]
        run_all(world, callers, choose)
        assert turns_us(callers) == [began_us + seconds * SECOND_US for seconds in served]

    assert explore(run) >= 24


@pytest.mark.parametrize(
    ("limit", "apart"),
    [(FixedWindow(1, per=10), 10), (SlidingLog(1, per=10), 10), (SlidingWindow(1, per=10), 20)],
    ids=str,
)
def test_in_whatever_order_they_ask_again_waiters_for_a_window_keep_the_limit(limit: Limit, apart: int) -> None:
    def run(choose: Choose) -> None:
        world = World()
        callers = [Caller(world, acquire(hit(limit), timeout=2.5 * apart)) for _ in range(3)]
        run_all(world, callers, choose)
        turns = turns_us(callers)
        assert len(turns) == 3
        assert all(later - earlier >= apart * SECOND_US for earlier, later in itertools.pairwise(turns))

    assert explore(run) >= 6


def test_in_whatever_order_they_poll_waiters_for_a_slot_keep_the_limit() -> None:
    def run(choose: Choose) -> None:
        world = World()
        limit = Concurrency(1, ttl=10)
        callers = [Caller(world, acquire(hit(limit, holder=f"{number}"), timeout=0.005)) for number in range(3)]
        run_all(world, callers, choose)
        assert len(turns_us(callers)) == 1

    assert explore(run) >= 100


def test_whoever_is_interrupted_whenever_the_others_keep_the_limit() -> None:
    limit = TokenBucket(1, per=10)

    def run(choose: Choose) -> None:
        world = World()
        callers = [Caller(world, acquire(hit(limit))) for _ in range(4)]
        run_all(world, callers, choose, interrupts=2)
        turns = turns_us(callers)
        assert all(later - earlier >= 10 * SECOND_US for earlier, later in itertools.pairwise(turns))
        assert len(turns) == 4 - sum(caller.is_interrupted for caller in callers)

    assert explore(run) >= 100


def test_when_all_waiters_are_interrupted_it_is_as_if_they_had_never_come() -> None:
    limit = TokenBucket(1, per=10)

    def run(choose: Choose) -> None:
        world = World()
        world.run(acquire(hit(limit)))
        before = world.store.decide([Group((hit(limit),), 0, "peek")])[0].facts
        callers = [Caller(world, acquire(hit(limit))) for _ in range(3)]
        for caller in callers:
            caller.go_on()
        while sleeping := [caller for caller in callers if caller.is_sleeping]:
            caller = sleeping[choose(len(sleeping))]
            caller.interrupt()
            caller.go_on()
        assert world.store.decide([Group((hit(limit),), 0, "peek")])[0].facts == before

    assert explore(run) == 6


def test_a_place_that_was_left_is_taken_by_the_next_who_comes() -> None:
    limit = TokenBucket(1, per=10)

    def run(choose: Choose) -> None:
        world = World()
        began_us = world.clock()
        callers = [Caller(world, acquire(hit(limit))) for _ in range(4)]
        for caller in callers:
            caller.go_on()
        left = 1 + choose(3)
        callers[left].interrupt()
        callers[left].go_on()
        callers.append(Caller(world, acquire(hit(limit))))
        run_all(world, callers, lambda _: 0)
        assert turns_us(callers) == [began_us + seconds * SECOND_US for seconds in (0, 10, 20, 30)]

    assert explore(run) == 3


def test_those_who_wait_for_a_bucket_of_their_own_do_not_go_all_at_once_through_a_shared_one() -> None:
    own, shared = TokenBucket(1, per=100), TokenBucket(1, per=1, burst=2)
    world = World()
    callers = []
    for number in range(10):
        assert world.run(acquire(hit(own, f"{number}")))
    for number in range(10):
        callers.append(Caller(world, acquire(hit(own, f"{number}"), hit(shared, "shared"))))
        callers[-1].go_on()
        world.clock.advance(seconds=1)
    run_all(world, callers, lambda _: 0)
    turns = turns_us(callers)
    assert len(turns) == 10
    for first, began_us in enumerate(turns):
        for last, ended_us in enumerate(turns[first:], 1):
            assert last * SECOND_US <= 2 * SECOND_US + (ended_us - began_us)


def test_what_a_denied_decision_gives_back_is_nothing(world: World) -> None:
    world.run(acquire(hit(SlidingLog(1, per=60))))
    denied = world.store.decide([Group((hit(SlidingLog(1, per=60)),))])[0]
    assert give_back_groups(denied) == []

"""A limiter is asked in the middle of a call of the same thread, by a signal's handler or a finalizer; or an exception
ends the call there. At each point where the interpreter lets such in: nothing hangs, and every count is right.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

import headgate
from headgate import (
    Concurrency,
    Decision,
    FixedWindow,
    Limit,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from headgate.decision import copies
from tests.alarms import beating
from tests.striking import Struck, code_of, each_point, strike

WITHIN = code_of(headgate)
LIMITS: list[Limit] = [
    TokenBucket(9, per=60),
    FixedWindow(9, per=60),
    FixedWindow(9, per="day", tz="Europe/Berlin"),
    SlidingWindow(9, per=60),
    SlidingLog(9, per=60),
    Concurrency(9, ttl=60),
]

Call = Callable[[Limiter, list[Decision]], Decision | None]
"""A call of a limiter, with the decisions of two earlier hits of one token. It tells what was decided, if anything."""


def spend(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    return limiter.try_acquire("k", 2)


def spend_too_much(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    return limiter.try_acquire("k", 8)


def spend_new(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    return limiter.try_acquire("new", 2)


def spend_other(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    """By a limit of this call."""
    return limiter.try_acquire("k", 2, limit=next(iter(limiter.limits.values())))


def wait(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    return limiter.acquire("k", 2, timeout=0.5)


def peek(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    limiter.peek("k", 0)
    return None


def refund(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    limiter.refund(earlier.pop())
    return None


def settle(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    limiter.settle(earlier.pop(), 3)
    return None


def reset(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    limiter.reset("k")
    return None


def hold(limiter: Limiter, earlier: list[Decision]) -> Decision | None:
    with limiter.hold("k", 2):
        pass
    return None


CALLS: list[Call] = [spend, spend_too_much, spend_new, spend_other, wait, peek, refund, settle, reset, hold]


class Bench:
    """A limiter of which two tokens are spent."""

    def __init__(self, limit: Limit) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.limiter = Limiter(limit, store=self.store, name="n")
        self.limiter.try_acquire("k", 0)
        self.earlier = [self.limiter.try_acquire("k") for _ in range(2)]

    def make(self, call: Call) -> bool | None:
        decision = call(self.limiter, self.earlier)
        return None if decision is None else decision.allowed

    def outcome(self) -> tuple[int, ...]:
        """What is left, by what each way of asking says, and that the store is in order."""
        left = tuple(self.limiter.peek(key, 0).remaining for key in ("k", "new"))
        for table in self.store._tables.all():
            assert sorted(table.entries) == sorted(table.places)  # or nobody would ever drop what has no place
            assert not table.entries or self.store._tables.swept.count(table) == 1
        assert self.store._operations.under_way is None
        for key, most in zip(("k", "new"), left, strict=True):
            assert most <= 9
            if most:
                assert self.limiter.try_acquire(key, most)
            assert not self.limiter.try_acquire(key)
        return left


def _add(told: list[bool | None], bench: Bench, call: Call) -> None:
    told.append(bench.make(call))


@pytest.mark.parametrize("inner", [spend, spend_new, refund, reset, hold], ids=lambda call: call.__name__)
@pytest.mark.parametrize("outer", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_call_within_a_call_is_as_if_one_came_after_the_other(limit: Limit, outer: Call, inner: Call) -> None:
    serial = []
    for calls in ((outer, inner), (inner, outer)):
        bench = Bench(limit)
        answers = [bench.make(call) for call in calls]
        serial.append((sorted(map(str, answers)), bench.outcome()))
    for point in each_point():
        bench = Bench(limit)
        told: list[bool | None] = []
        within = partial(_add, told, bench, inner)
        told.append(point.striking(partial(bench.make, outer), WITHIN, within))
        if point.place:
            assert (sorted(map(str, told)), bench.outcome()) in serial, point


@pytest.mark.parametrize("outer", [spend, spend_new, refund], ids=lambda call: call.__name__)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_it_is_so_where_refunds_count_once_and_leave_a_mark(
    limit: Limit, outer: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do in a process that has forked: of each decision, there may be a copy."""
    monkeypatch.setattr(copies._forks, "last_us", 2**53)
    test_a_call_within_a_call_is_as_if_one_came_after_the_other(limit, outer, refund)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_an_exception_at_any_point_costs_at_most_what_the_call_was_to_take(limit: Limit, call: Call) -> None:
    before, after = Bench(limit), Bench(limit)
    after.make(call)
    likely = [before.outcome(), after.outcome()]
    least = min(min(likely)[0], 5)  # a hold that is not let go of keeps its slots
    for point in each_point(with_collector=False):
        bench = Bench(limit)
        with suppress(Struck):
            point.striking(partial(bench.make, call), WITHIN, strike)
        bench.limiter.try_acquire("another")  # which sees to what was left half-done
        left = bench.outcome()
        assert least <= left[0] <= max(likely)[0], point
        assert left[1] in (7, 9), point


KINDS = ["1_000_000/s", "fixed-window 1_000_000/s", "sliding-log 10_000/s", "concurrency 1000; ttl=1ms"]


@pytest.mark.parametrize("limit", [*KINDS, ["1_000_000/s", "fixed-window 10_000_000/day"]], ids=str)
def test_a_handler_that_asks_ends_and_is_counted(limit: str | list[str]) -> None:
    """As it was reported: an alarm's handler asks, and sets the next alarm."""
    limiter = Limiter(limit, name="n")
    beats = 0

    def beat() -> None:
        nonlocal beats
        limiter.try_acquire("beat")
        limiter.peek("work", 0)
        beats += 1

    with beating(beat, 0.0005):
        until = time.monotonic() + 30
        while beats < 200 and time.monotonic() < until:
            limiter.try_acquire("work")
    assert beats >= 200


def test_a_handler_that_spends_from_the_same_bucket_admits_exactly_what_there_is() -> None:
    limiter = Limiter(TokenBucket(20_000, per=10_000_000))
    admitted = 0

    def beat() -> None:
        nonlocal admitted
        admitted += limiter.try_acquire("k").allowed

    mine = 0
    with beating(beat, 0.0001):
        while limiter.try_acquire("k"):
            mine += 1
    assert admitted > 0
    assert admitted + mine == 20_000


def test_a_finalizer_may_ask() -> None:
    limiter = Limiter("100_000/day", store=MemoryStore(clock=ManualClock()))  # by day, a token comes back each second
    asked = []

    class Finalized:
        def __init__(self) -> None:
            self.itself = self  # for the garbage collector, which comes by whenever it likes

        def __del__(self) -> None:
            asked.append(limiter.try_acquire("k").allowed)

    spent = 0
    for _ in range(3_000):
        Finalized()
        spent += limiter.try_acquire("k").allowed
        spent += limiter.try_acquire(f"k{spent}").allowed - 1
    gc.collect()
    assert len(asked) == 3_000
    assert limiter.peek("k", 0).remaining == 100_000 - spent - 3_000

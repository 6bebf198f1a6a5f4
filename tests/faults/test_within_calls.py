"""A limiter is asked in the middle of a call of the same thread, by a signal's handler or a finalizer; or an exception
ends the call there. At each point where the interpreter lets such in: nothing hangs, and every count is right.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

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
"""A call of a limiter, with the decisions of two earlier hits of one token. It answers what was decided, if anything."""


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
        kept = [key for table in self.store._living_tables() for key in table.entries]
        places = [key for _, key in self.store._round]
        assert {*kept} <= {*places}  # or nobody would ever drop it
        assert self.store._under_way is None
        for key, most in zip(("k", "new"), left, strict=True):
            assert most <= 9
            if most:
                assert self.limiter.try_acquire(key, most)
            assert not self.limiter.try_acquire(key)
        return left


@pytest.mark.parametrize("inner", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("outer", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_a_call_within_a_call_is_as_if_one_came_after_the_other(limit: Limit, outer: Call, inner: Call) -> None:
    serial = []
    for calls in ((outer, inner), (inner, outer)):
        bench = Bench(limit)
        answers = {call: bench.make(call) for call in calls} if outer is not inner else {}
        if outer is inner:
            answers = {0: bench.make(outer), 1: bench.make(inner)}  # type: ignore[dict-item]
        serial.append((sorted(map(str, answers.values())), bench.outcome()))
    for point in each_point():
        bench = Bench(limit)
        told: list[bool | None] = []
        told.append(point.striking(lambda: bench.make(outer), WITHIN, lambda: told.append(bench.make(inner))))
        if point.place:
            assert (sorted(map(str, told)), bench.outcome()) in serial, point


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_an_exception_at_any_point_costs_at_most_what_the_call_was_to_take(limit: Limit, call: Call) -> None:
    before, after = Bench(limit), Bench(limit)
    after.make(call)
    likely = [before.outcome(), after.outcome()]
    least = min(min(likely)[0], 5)  # a hold that is not let go of keeps its slots
    for point in each_point(with_collector=False):
        bench = Bench(limit)
        with pytest.raises(Struck) if point else pytest.raises(Struck):
            point.striking(lambda: bench.make(call), WITHIN, strike)
            if not point.place:
                raise Struck
        bench.limiter.try_acquire("another")  # which sees to what was left half-done
        left = bench.outcome()
        assert least <= left[0] <= max(likely)[0], point
        assert left[1] in (7, 9), point

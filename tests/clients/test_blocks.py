"""What a vendor says is written so that the latest end counts, whoever writes at the same time, and is read exactly."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Limiter, ManualClock, MemoryStore, Store, TokenBucket
from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, Library
from headgate.plans.commands import Call
from headgate.web.core import run
from tests.profiles import quickly
from tests.servers import store_by_clock

LIBRARY = Library(
    host=lambda _: "vendor",
    is_unsent=lambda _: False,
    can_resend=lambda _: True,
    answer=lambda response: response,
    discard=lambda _: None,
    when_closed=lambda *_: False,
)


def limits_on(store: Store) -> ClientLimits:
    return ClientLimits(Limiter, LIBRARY, "1000/second", store=store, timeout=0)


def told(limits: ClientLimits, seconds: int) -> Generator[Call, Any, Any]:
    """The plan of a request that is answered with `Retry-After`."""
    return limits.exchange("request", lambda: Answer(429, {"Retry-After": str(seconds)}, None))


def blocked_us(store: Store) -> int:
    """For how long the vendor is left alone."""
    limiter = Limiter(TokenBucket(1_000_000, burst=60_000_000), store=store, name="clients:blocked")
    return limiter.peek("vendor", 60_000_000).retry_after_us


def sent(plan: Generator[Call, Any, Any]) -> Call:
    """Run a plan until its answer is there, and it is about to write."""
    command = next(plan)
    while True:
        reply = command.function(*command.arguments)
        command = plan.send(reply)
        if isinstance(reply, Answer):
            return command


SECONDS = st.integers(1, 60)


@settings(max_examples=quickly(200))
@given(st.lists(SECONDS, min_size=1, max_size=5), st.lists(st.integers(0, 4), max_size=20))
def test_of_those_who_write_at_the_same_time_the_latest_end_counts(seconds: list[int], turns: list[int]) -> None:
    store = MemoryStore(ManualClock())
    limits = limits_on(store)
    plans = [told(limits, one) for one in seconds]
    writing = dict(enumerate([sent(plan) for plan in plans]))
    for turn in itertools.chain(turns, *[[each] * 20 for each in range(5)]):
        if turn in writing:
            command = writing.pop(turn)
            with suppress(StopIteration):
                writing[turn] = plans[turn].send(command.function(*command.arguments))
    assert not writing
    assert blocked_us(store) == max(seconds) * 1_000_000


@settings(max_examples=quickly(100))
@given(st.lists(st.tuples(SECONDS, st.integers(0, 30_000_000)), min_size=1, max_size=6))
def test_of_those_who_write_one_after_the_other_the_latest_end_counts(writes: list[tuple[int, int]]) -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    plans = [told(limits_on(store), seconds) for seconds, _ in writes]
    writing = [sent(plan) for plan in plans]  # all are on their way before the first is answered
    ends_us = 0
    for plan, command, (seconds, passed_us) in zip(plans, writing, writes, strict=True):
        run(resumed(command, plan))
        ends_us = max(ends_us, clock() + seconds * 1_000_000)
        assert blocked_us(store) == ends_us - clock()
        clock.advance(microseconds=passed_us)
        assert blocked_us(store) == max(0, ends_us - clock())


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_blocks_neither_add_up_nor_shorten_each_other(kind: str, valkey_url: str, prefix: str) -> None:
    clock = ManualClock()
    store = store_by_clock(kind, valkey_url, prefix, clock)
    limits = limits_on(store)
    written = [told(limits, seconds) for seconds in (30, 40, 10)]
    for plan, command in [(plan, sent(plan)) for plan in written]:
        run(resumed(command, plan))
    assert blocked_us(store) == 40_000_000
    clock.advance(25)
    assert blocked_us(store) == 15_000_000
    store.close()


def resumed(command: Call, plan: Generator[Call, Any, Any]) -> Generator[Call, Any, Any]:
    """The rest of a plan that stands before a command."""
    while True:
        reply = yield command
        try:
            command = plan.send(reply)
        except StopIteration as done:
            return done.value

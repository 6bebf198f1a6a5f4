"""On a server: a limiter is asked in the middle of a call of the same thread, or an exception ends the call there, at
each point where the interpreter lets such in. Nothing hangs, counts are right, and what is lost comes back by itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import headgate
from headgate import Lease, Limiter, ManualClock
from headgate.stores.redis import RedisStore
from tests.striking import Struck, code_of, each_point, strike

WITHIN = code_of(headgate)
PATIENT = 20.0
TTL_S = 30


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(valkey_url: str, prefix: str, clock: ManualClock) -> Iterator[RedisStore]:
    made = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    made.use_clock(clock)
    yield made
    made.close()


@pytest.fixture
def live(valkey_url: str, prefix: str) -> Iterator[RedisStore]:
    """By the server's clock, as hits go the shortest way."""
    made = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    yield made
    made.close()


Work = Callable[[Limiter, str], object]


def spend(limiter: Limiter, key: str) -> object:
    return limiter.try_acquire(key, 2)


def acquire(limiter: Limiter, key: str) -> object:
    return limiter.acquire(key, 2, timeout=1)


def hold(limiter: Limiter, key: str) -> object:
    with limiter.hold(key, 2):
        return None


def decorated(limiter: Limiter, key: str) -> object:
    return limiter.limit(key=key, cost=2)(lambda: None)()


def refund(limiter: Limiter, key: str) -> object:
    limiter.refund(limiter.try_acquire(key, 2))
    return None


def settle(limiter: Limiter, key: str) -> object:
    limiter.settle(limiter.try_acquire(key, 2), 1)
    return None


def peek(limiter: Limiter, key: str) -> object:
    return limiter.peek(key)


@pytest.fixture(autouse=True)
def nothing_of_others_is_collected() -> Iterator[None]:
    """What other tests have left behind is collected before, and not at a point that is struck."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


WORKS: list[Work] = [spend, acquire, hold, decorated, refund, settle]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_an_exception_at_any_point_costs_at_most_its_slots_for_one_ttl(
    work: Work, store: RedisStore, clock: ManualClock
) -> None:
    limiter = Limiter(f"concurrency 9; ttl={TTL_S}s", store=store, on_outage="raise")
    for point in each_point(with_collector=False):
        key = f"k{point.number}"
        began = time.monotonic()
        with suppress(Struck):
            point.striking(lambda: work(limiter, key), WITHIN, strike)  # noqa: B023  # called at once
        assert limiter.peek(key, 0).remaining >= 7, point
        clock.advance(seconds=TTL_S)
        assert limiter.peek(key, 0).remaining == 9, point
        assert limiter.try_acquire(key, 9), point
        assert time.monotonic() - began < PATIENT / 2, point


@pytest.mark.parametrize("work", [spend, acquire, settle], ids=lambda work: work.__name__)
@pytest.mark.parametrize("limit", ["9/day", "fixed-window 9/day"])
def test_an_exception_at_any_point_costs_at_most_the_tokens_of_its_call(
    limit: str, work: Work, live: RedisStore
) -> None:
    limiter = Limiter(limit, store=live, on_outage="raise")
    for point in each_point(with_collector=False):
        key = f"k{point.number}"
        with suppress(Struck):
            point.striking(lambda: work(limiter, key), WITHIN, strike)  # noqa: B023  # called at once
        left = limiter.peek(key, 0).remaining
        assert 7 <= left <= 9, point
        assert limiter.try_acquire(key, left), point
        assert not limiter.try_acquire(key), point


@pytest.mark.parametrize("inner", [spend, hold], ids=lambda work: work.__name__)
@pytest.mark.parametrize("outer", [spend, hold, settle], ids=lambda work: work.__name__)
@pytest.mark.parametrize("limit", ["9/day", "concurrency 9"])
def test_a_call_within_a_call_is_as_if_one_came_after_the_other(
    limit: str, outer: Work, inner: Work, live: RedisStore
) -> None:
    limiter = Limiter(limit, store=live, on_outage="raise")
    outer(limiter, "k")
    inner(limiter, "k")
    expected = limiter.peek("k", 0).remaining
    for point in each_point():
        key = f"k{point.number}"
        point.striking(lambda: outer(limiter, key), WITHIN, lambda: inner(limiter, key))  # noqa: B023
        if point.place:
            assert limiter.peek(key, 0).remaining == expected, point


@pytest.mark.parametrize("inner", [spend, refund], ids=lambda work: work.__name__)
@pytest.mark.parametrize("limit", ["90/day", "fixed-window 90/day"])
def test_a_call_within_a_call_that_draws_or_spends_a_lease_never_lets_through_too_much(
    limit: str, inner: Work, valkey_url: str, prefix: str
) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    for point in each_point():
        name = f"n{point.number}"
        limiter = Limiter(limit, store=store, on_outage="raise", lease=Lease(max_tokens=8), name=name)
        for _ in range(3):
            assert limiter.try_acquire("k", 1)
        admitted = [True] * 3

        def call() -> None:
            for _ in range(3):
                admitted.append(bool(limiter.try_acquire("k", 1)))  # noqa: B023

        def within() -> None:
            if inner is spend:
                admitted.append(bool(limiter.try_acquire("k", 1)))  # noqa: B023
            else:
                limiter.refund(limiter.try_acquire("k", 1))  # noqa: B023

        point.striking(call, WITHIN, within)
        limiter.close()
        left = Limiter(limit, store=store, on_outage="raise", name=name).peek("k", 0).remaining
        assert sum(admitted) + left <= 90, point
    store.close()

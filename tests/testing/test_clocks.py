"""Stores on a clock of the test's."""

from __future__ import annotations

import pytest

from headgate import Limiter, ManualClock, MemoryStore
from headgate.errors import InvalidUse
from headgate.stores.redis import RedisStore
from headgate.testing import use_clock


def test_a_redis_store_decides_by_the_clock_it_is_given(valkey_url: str, prefix: str) -> None:
    clock = ManualClock()
    store = use_clock(RedisStore(valkey_url, prefix=prefix, timeout=10), clock)
    limiter = Limiter("2/hour", store=store)
    assert [bool(limiter.try_acquire("key")) for _ in range(3)] == [True, True, False]
    denied = limiter.try_acquire("key")
    assert denied.now_us == clock()
    clock.advance(microseconds=denied.retry_after_us - 1)
    assert not limiter.try_acquire("key")
    clock.advance(microseconds=1)
    assert limiter.try_acquire("key")
    store.close()


def test_a_store_that_takes_its_clock_when_it_is_made_says_so() -> None:
    with pytest.raises(InvalidUse, match="MemoryStore cannot be put on another clock"):
        use_clock(MemoryStore(), ManualClock())

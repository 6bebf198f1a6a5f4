"""The benches: blocking and asyncio limiters, over memory and over a real Valkey, by a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headgate import AsyncLimiter, Limiter, ManualClock, MemoryStore, Store
from headgate.stores.redis import RedisStore
from tests.limiter.bench import Bench
from tests.servers import store_by_clock


@pytest.fixture(params=["blocking-memory", "asyncio-memory", "blocking-valkey", "asyncio-valkey"])
async def bench(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> AsyncIterator[Bench]:
    """By a clock that stands still. The server's expiry does not: what is owed in a test must last some seconds."""
    kind, _, where = request.param.partition("-")
    clock = ManualClock()
    store = store_by_clock(where, valkey_url, prefix, clock)
    yield Bench(Limiter if kind == "blocking" else AsyncLimiter, store, clock)
    await store.aclose()


@pytest.fixture(params=["blocking-memory", "asyncio-memory", "blocking-valkey", "asyncio-valkey"])
async def live_bench(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> AsyncIterator[Bench]:
    """The same by clocks that run, for tests that wait."""
    kind, _, where = request.param.partition("-")
    store: Store = MemoryStore() if where == "memory" else RedisStore(valkey_url, prefix=prefix, timeout=20)
    yield Bench(Limiter if kind == "blocking" else AsyncLimiter, store, ManualClock())
    await store.aclose()
    await asyncio.sleep(0)

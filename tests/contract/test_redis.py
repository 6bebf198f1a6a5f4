"""The Redis store keeps the promises of a store, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.redis import RedisStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestRedisStore(StoreContract, ScannableStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, valkey_url: str, prefix: str) -> Iterator[RedisStore]:
        store = use_clock(RedisStore(valkey_url, prefix=prefix, timeout=10), clock)
        yield store
        store.close()

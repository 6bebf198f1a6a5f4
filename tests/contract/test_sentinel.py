"""The Redis store keeps the promises of a store on the primary that sentinels name, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.redis import RedisStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestRedisStoreBySentinel(StoreContract, ScannableStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, sentinel_url: str, prefix: str) -> Iterator[RedisStore]:
        store = use_clock(RedisStore(sentinel_url, prefix=prefix, timeout=10), clock)
        yield store
        store.close()

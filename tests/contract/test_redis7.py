"""The Redis store keeps the promises of a store on Redis itself, and on a cluster of it, as it does on Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.redis import RedisStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestRedisStoreOnRedis7(StoreContract, ScannableStoreContract):
    @pytest.fixture(params=["redis7_url", "redis7_cluster_url"], ids=["one server", "a cluster"])
    def store(self, request: pytest.FixtureRequest, clock: ManualClock, prefix: str) -> Iterator[RedisStore]:
        store = use_clock(RedisStore(request.getfixturevalue(request.param), prefix=prefix, timeout=10), clock)
        yield store
        store.close()

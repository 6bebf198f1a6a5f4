"""The Redis store keeps the promises of a store on a real cluster, too: whether keys lie in many slots or in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.redis import RedisStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestRedisStoreOnACluster(StoreContract, ScannableStoreContract):
    @pytest.fixture(params=[None, "tag"], ids=["slots", "hash-tag"])
    def store(
        self, request: pytest.FixtureRequest, clock: ManualClock, cluster_url: str, prefix: str
    ) -> Iterator[RedisStore]:
        store = use_clock(RedisStore(cluster_url, prefix=prefix, hash_tag=request.param, timeout=10), clock)
        yield store
        store.close()

"""The NATS store keeps the promises of a store, on a real server: where a bucket can write several entries all or none,
and where it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.nats import NatsStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock
from tests.nats_servers import make_bucket


@pytest.fixture(scope="session")
def singly(nats_url: str) -> str:
    """A bucket as that of an older server: entries are written one by one."""
    make_bucket(nats_url, "singly", allow_atomic=False)
    return "singly"


class TestNatsStore(StoreContract, ScannableStoreContract):
    @pytest.fixture(params=["headgate", "singly"], ids=["together", "singly"])
    def store(
        self, request: pytest.FixtureRequest, clock: ManualClock, nats_url: str, singly: str, prefix: str
    ) -> Iterator[NatsStore]:
        store = use_clock(NatsStore(nats_url, bucket=request.param, prefix=prefix, timeout=10), clock)
        yield store
        store.close()

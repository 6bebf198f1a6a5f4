"""The PostgreSQL store keeps the promises of a store, on real servers of several versions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.stores.postgres import PostgresStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestPostgresStore(StoreContract, ScannableStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, each_postgres_url: str, prefix: str) -> Iterator[PostgresStore]:
        store = use_clock(PostgresStore(each_postgres_url, prefix=prefix, timeout=10), clock)
        yield store
        store.close()

"""The SQLite store keeps the promises of a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate import ManualClock
from headgate.stores.sqlite import SqliteStore
from headgate.testing import ScannableStoreContract, StoreContract, use_clock


class TestSqliteStore(StoreContract, ScannableStoreContract):
    @pytest.fixture(params=[True, False], ids=["together", "each-by-itself"])
    def store(self, request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[SqliteStore]:
        store = use_clock(SqliteStore(tmp_path / "limits.db", timeout=10, coalesce=request.param), clock)
        yield store
        store.close()

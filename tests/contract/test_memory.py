"""The memory store keeps the promises of a store."""

from __future__ import annotations

import pytest

from headgate import ManualClock, MemoryStore
from headgate.testing import ScannableStoreContract, StoreContract


class TestMemoryStore(StoreContract, ScannableStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock)

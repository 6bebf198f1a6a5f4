"""The memory store keeps the promises of a store."""

from __future__ import annotations

import pytest

from headgate import ManualClock, MemoryStore
from headgate.testing import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock)

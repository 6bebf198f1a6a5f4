"""Each test of clients is run with each client, against a vendor of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate import ManualClock
from headgate.testing import deterministic
from tests.clients.calling import KINDS
from tests.clients.vendors import Vendor, own_vendor


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with own_vendor() as made:
        yield made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """All limiters decide on one store, by this clock, which waiting moves on."""
    with deterministic() as made:
        yield made

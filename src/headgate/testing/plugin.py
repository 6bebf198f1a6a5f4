"""The pytest plugin: fixtures that switch limits off, or put them on a clock that the test moves.

pytest loads this module in every run of an environment that has headgate, so it imports nothing of headgate's before a
test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headgate.clock import ManualClock

pytest.register_assert_rewrite("headgate.testing.contract")


@pytest.fixture
def headgate_off() -> Iterator[None]:
    """Every limiter in the process admits everything, and no store is asked."""
    from headgate.testing import limits_off

    with limits_off():
        yield


@pytest.fixture
def headgate_clock() -> Iterator[ManualClock]:
    """Every limiter in the process decides on one fresh memory store, by the clock that this fixture returns.

    A waiting `acquire` moves that clock on to its turn instead of sleeping.
    """
    from headgate.testing import deterministic

    with deterministic() as clock:
        yield clock

"""The table of faults, of which a few are let happen here: nothing but outages reaches callers, and all ends well.
`make faults` lets all happen."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS, Fault
from tests.faults.table import befall

QUICK = ["a process hangs in its turn", "script flush", "connections killed", "backends terminated"]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in QUICK], ids=lambda fault: fault.name)
def test_a_fault_in_mid_traffic_forgets_nothing(fault: Fault) -> None:
    seen = befall(fault)  # which waits until all callers are answered, and fails if they get anything else
    assert seen.answered > 100
    assert seen.forgotten == 0

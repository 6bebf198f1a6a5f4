"""For tests: of code that uses limiters (`limits_off`, `deterministic`), and of stores (`StoreContract`, `use_clock`).

What is asked for is imported then, and not before: the pytest plugin lives in this package, and pytest loads it in
every run. Only `StoreContract` needs pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.clock import ManualClock
    from headgate.testing.clocks import use_clock
    from headgate.testing.contract import ScannableStoreContract, StoreContract
    from headgate.testing.replacing import deterministic, limits_off

__all__ = ["ManualClock", "ScannableStoreContract", "StoreContract", "deterministic", "limits_off", "use_clock"]

_HOMES = {
    "ManualClock": "headgate.clock",
    "ScannableStoreContract": "headgate.testing.contract",
    "StoreContract": "headgate.testing.contract",
    "deterministic": "headgate.testing.replacing",
    "limits_off": "headgate.testing.replacing",
    "use_clock": "headgate.testing.clocks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

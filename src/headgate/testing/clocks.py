"""Putting a store that decides by its server's clock on a clock of the test's."""

from __future__ import annotations

from typing import TypeVar

from headgate.clock import Clock
from headgate.errors import InvalidUse
from headgate.stores import Store

AnyStore = TypeVar("AnyStore", bound=Store)


def use_clock(store: AnyStore, clock: Clock) -> AnyStore:
    """Make a store decide by `clock` instead of its server's, and hand it back. `MemoryStore` takes a clock when it is
    made.

    A server still forgets keys by its own clock, an hour later than it otherwise would: a test that takes longer than
    that may find them gone.

    :raises InvalidUse: if the store cannot be put on another clock.
    """
    put = getattr(store, "use_clock", None)
    if put is None:
        raise InvalidUse(f"{type(store).__name__} cannot be put on another clock")
    put(clock)
    return store

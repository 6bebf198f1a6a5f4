"""Putting a store that decides by its server's clock on a clock of the test's."""

from __future__ import annotations

from typing import TypeVar

from headgate.clock import Clock
from headgate.errors import InvalidUse
from headgate.stores import Store

AnyStore = TypeVar("AnyStore", bound=Store)


def use_clock(store: AnyStore, clock: Clock) -> AnyStore:
    """Make a `RedisStore` decide by `clock` instead of its server's, and hand it back. `MemoryStore` takes a clock
    when it is made.

    The server still forgets keys by its own clock: a debt of a second is gone after a second, wherever `clock` stands.

    :raises InvalidUse: if the store cannot be put on another clock.
    """
    put = getattr(store, "use_clock", None)
    if put is None:
        raise InvalidUse(f"{type(store).__name__} cannot be put on another clock")
    put(clock)
    return store

"""The stores: where the state lives, and whose clock counts. The only place that imports a client library.

`Store` is the whole contract. Two families fulfil it: Redis and its like compute where the data is, in one trip for
a batch; memory and its like hold the state, and the algorithms run here. `headgate.testing.StoreContract` tests a
store of either family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from headgate.decision import Decision, Lone
from headgate.hits import Group
from headgate.limits import Limit


@runtime_checkable
class Store(Protocol):
    """What a limiter asks of a store. Batch-first: one call, one trip, one answer for each group.

    A store judges the groups in order, each of them atomically, by its own clock. It never repeats a spend by
    itself. It raises `StoreOutage` where it cannot answer, and nothing else.
    """

    timeout: float
    """The deadline of a call, in seconds."""

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch, blocking. Safe to call from several threads."""

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch. Safe to call from several tasks and event loops."""

    def close(self) -> None:
        """Release what the store opened itself; afterwards, nothing more is asked."""

    async def aclose(self) -> None:
        """The same, in an event loop."""


@runtime_checkable
class QuickStore(Store, Protocol):
    """A store that has a shorter way for single hits."""

    def lone(self, limit: Limit, name: str, /) -> Lone:
        """What decides on single hits of `limit`, blocking. It raises `StoreOutage` as `decide` does."""

    def lone_async(self, limit: Limit, name: str, /) -> Lone:
        """What decides on single hits of `limit` without waiting for anything."""

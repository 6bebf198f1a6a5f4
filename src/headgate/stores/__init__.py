"""The stores: where the state lives, and whose clock counts. The only place that imports a client library.

`Store` is the whole contract. Two families fulfil it: Redis and its like compute where the data is, in one trip for
a batch; memory and its like hold the state, and the algorithms run here. `headgate.testing.StoreContract` tests a
store of either family.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

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


Ride = Callable[[Any, Any], "asyncio.Future[Decision] | None"]
"""Has one hit of one limit answered, by key and cost, or leaves it alone (None). What the caller awaits raises
`StoreOutage` where the store cannot answer."""
Leave = Callable[["asyncio.Future[Decision]"], None]
"""Gives up what a `Ride` promised: for a caller that was cancelled while it awaited it."""


@runtime_checkable
class RidingStore(QuickStore, Protocol):
    """A store that has a shorter way for single hits of many tasks, too."""

    def riding(self, limit: Limit, name: str, /) -> tuple[Ride, Leave] | None:
        """What has single hits of `limit` answered in an event loop, and what gives one up; None if there is no such
        way.
        """

"""The contract between limiters and stores: `Store` is the whole contract, `SingleHitStore` an optional fast path
beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from headgate.decision import Decision, Single
from headgate.hits import Group
from headgate.limits import Limit


@runtime_checkable
class Store(Protocol):
    """Keeps state and judges hits. Batch-first: one call, one round trip, one answer for each group.

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


Submit = Callable[[Any, Any], "asyncio.Future[Decision] | None"]
"""Has one hit of one limit answered, by key and cost, or leaves it alone (None). What the caller awaits raises
`StoreOutage` where the store cannot answer."""
GiveUp = Callable[["asyncio.Future[Decision]"], None]
"""Gives up what a `Submit` promised: for a caller that was cancelled while it awaited it."""


@runtime_checkable
class SingleHitStore(Store, Protocol):
    """A store that has a fast path for single hits: by key and cost, without a group and a batch."""

    def single(self, limit: Limit, name: str, /) -> Single:
        """A callable that decides on single hits of `limit`, blocking. It raises `StoreOutage` as `decide` does."""

    def single_async(self, limit: Limit, name: str, /) -> Single:
        """A callable that decides on single hits of `limit` without waiting for anything."""

    def submitting(self, limit: Limit, name: str, /) -> tuple[Submit, GiveUp] | None:
        """Callables that have single hits of `limit` answered in an event loop, and give one up; None if there is no
        such way.
        """

"""The contract between limiters and stores: `Store` is the whole contract; beside it, `SingleHitStore` is an optional
fast path, and `ScannableStore` is for those who operate one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

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


class Entry(NamedTuple):
    """The state of one limit for one key, as every store can read and write it."""

    name: str
    """The limit's name."""
    code: str
    """The algorithm's code, such as `tb`."""
    key: str
    """With a NUL and a mark behind it, if the entry says that a group was counted which is to count once."""
    text: str
    """The state, as the algorithm's `dump` writes it."""
    until_us: int
    """The first instant, in microseconds since the epoch by the store's clock, at which it says nothing any more."""


@runtime_checkable
class ScannableStore(Store, Protocol):
    """A store whose state can be listed, cleared and carried to another. For operators: blocking, in many small steps
    that hold up nobody, and never on the way of a decision. Each method raises `StoreOutage` where the store does not
    answer.
    """

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """List what is owed, of keys that begin with `key_prefix`, and of limits of this name (None: of any) whose name
        begins with `name_prefix`, in no order. What changes meanwhile may be listed as it was or as it is; what does
        not is listed once.
        """

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """Forget what `scan` would list, and count it."""

    def restore(self, entries: Iterable[Entry], /) -> int:
        """Keep these entries, each merged with what is kept in its place: whom either would deny, what is kept then
        denies. Nothing is added up that both may know of. Counts those that were written: not those of which all was
        known, nor those that say nothing any more.
        """

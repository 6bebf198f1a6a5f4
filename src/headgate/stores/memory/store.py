"""`MemoryStore`: one process, any number of threads and tasks.

State lives in dicts under one lock, which is all the atomicity there is: it does not lean on the GIL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from headgate.clock import Clock, system_clock
from headgate.decision import Decision, Single
from headgate.errors import InvalidUse
from headgate.hits import Group
from headgate.limits import Limit
from headgate.stores.contract import Entry
from headgate.stores.memory import scanning, singles
from headgate.stores.memory.operations import Operations
from headgate.stores.memory.tables import Tables

MAX_ENTRIES: Final = 1_000_000
"""How many entries are remembered by default."""


class MemoryStore:
    """State in this process's memory. Safe to share between threads, tasks, signal handlers and forked processes.

    :param clock: tells the time; the system's clock by default, a `ManualClock` in tests.
    :param max_entries: how many (key, limit) pairs are remembered at most.
    """

    timeout = float("inf")

    def __init__(self, clock: Clock = system_clock, *, max_entries: int = MAX_ENTRIES) -> None:
        if max_entries < 1:
            raise InvalidUse(f"max_entries must be at least 1, not {max_entries}")
        self._clock = clock
        self._tables = Tables(max_entries)
        self._operations = Operations(clock, self._tables)

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self)} entries>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidUse(
            "a store in memory cannot be pickled, nor copied: what it counts is in this process alone. Give limiters "
            "that processes share a URL, such as store='redis://...', or make one in each process"
        )

    def __len__(self) -> int:
        """How many entries are held, those included whose debt is over but which the sweep has not met yet."""
        return len(self._tables)

    @property
    def evicted(self) -> int:
        """How many entries were forgotten while they still owed something, for want of room."""
        return self._tables.evicted

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch under the lock."""
        with self._operations.lock:
            return self._operations.decide(groups)

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch; nothing is awaited."""
        return self.decide(groups)

    def close(self) -> None:
        """Forget everything."""
        with self._operations.lock:
            operation = self._operations.begin()  # what is under way here is to judge anew
            for table in self._tables.all():
                table.clear()
            self._operations.end(operation)

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()

    # For operators

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """As `ScannableStore.scan`."""
        return scanning.scan(self._operations, self._clock, key_prefix, name, name_prefix)

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """As `ScannableStore.clear`."""
        return scanning.clear(self._operations, self._clock, key_prefix, name, name_prefix)

    def restore(self, entries: Iterable[Entry], /) -> int:
        """As `ScannableStore.restore`.

        :raises ValueError: if a text is no state.
        """
        return scanning.restore(self._operations, self._clock, entries)

    # Single hits

    def single(self, limit: Limit, name: str) -> Single:
        """A callable that decides on single hits of `limit`, by key and cost, as a batch of one does. It leaves alone
        (None) what is no plain key, or no cost from 1 to the capacity.
        """
        return singles.single(self._operations, self._clock, limit, name)

    def single_async(self, limit: Limit, name: str) -> Single:
        """As `single`: nothing is awaited."""
        return self.single(limit, name)

    def submitting(self, limit: Limit, name: str) -> None:
        """None: nobody waits here."""

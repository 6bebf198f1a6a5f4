"""The entries of the memory store, and how they are kept small: plain states are single integers.

Integers need no container of their own, which spares memory and the garbage collector's time, and are written without
a point in between at which somebody could come in. This module must not know what is asked.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, Final

from headgate.limits import Limit
from headgate.stores.holding import MARK

Entry = Any
"""A packed state, of a table that has a unit (see `headgate.algorithms`). Or `(state, until_us)`: a state, and the
instant by which it says nothing any more, in microseconds since the epoch."""

NOTHING: Final = (None, 0)


class Table:
    """The entries of one limit (one name and algorithm), by key. It lives while it has entries, or somebody asks it."""

    __slots__ = ("__weakref__", "algorithm", "entries", "granted", "is_swept", "places", "unit")

    def __init__(self, limit: Limit) -> None:
        self.algorithm: Any = limit.algorithm
        self.unit = 0
        """The unit of packed states. 0: there are none."""
        self.entries: dict[str, Entry] = {}
        self.places: deque[str] = deque()
        """The keys of all entries, in the order in which the sweep looks at them. An entry and its place come and go
        together: whoever changes one changes the other right after, with no point in between."""
        self.granted = 0
        """So many entries it may have without asking the store for room."""
        self.is_swept = False
        """Does the sweep come by here?"""

    def find(self, entry: Entry) -> tuple[Any, int]:
        """What an entry says: a state, and until when."""
        if type(entry) is int:
            unpacked: tuple[Any, int] = self.algorithm.unpack(entry, self.unit)
            return unpacked
        found: tuple[Any, int] = NOTHING if entry is None else entry
        return found

    def entry(self, state: Any, until_us: int) -> Entry:
        """What keeps a state."""
        if self.unit and state is not None and state is not MARK:
            packed = self.algorithm.pack(state, until_us, self.unit)
            if packed is not None:
                return packed
        return state, until_us

    def counted_in(self, unit: int) -> Table:
        """The same entries, with states packed in another unit."""
        made = Table.__new__(Table)
        made.algorithm, made.unit = self.algorithm, unit
        made.entries = {key: made.entry(*self.find(entry)) for key, entry in list(self.entries.items())}
        made.places = deque(made.entries)
        return made

    def look(self, count: int, now_us: int) -> int:
        """Look at the next places. Drops the dead, and puts the living last: returns how many these are."""
        entries, places = self.entries, self.places
        least = self.algorithm.least(now_us, self.unit) if self.unit else 0
        living = 0
        with suppress(IndexError):  # there may be fewer
            for _ in range(count):
                # From here to the next one, there is no point.
                key = places[living]
                if key in entries:
                    entry = entries[key]
                    if entry > least if entry.__class__ is int else entry[1] > now_us:
                        living += 1
                        continue
                    del entries[key]
                del places[living]
        places.rotate(-living)
        return living

    def ends_us(self, count: int) -> list[int]:
        """When the last places' entries say nothing any more, from the last on."""
        found = []
        with suppress(IndexError):
            for back in range(1, count + 1):
                key = self.places[-back]
                found.append(self.find(self.entries.get(key))[1])
        return found

    def forget(self, back: int) -> bool:
        """Forget an entry, by how far from the end its place is, counted from 1. Was there one?"""
        entries, places = self.entries, self.places
        with suppress(IndexError):
            key = places[-back]
            if key in entries:
                del entries[key]
            del places[-back]
            return True
        return False

    def clear(self) -> None:
        """Drop all entries. Who holds on to the dict goes on with it."""
        entries, places = self.entries, self.places
        while places:
            key = places[0]
            if key in entries:
                del entries[key]
            places.popleft()

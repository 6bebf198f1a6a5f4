"""The entries of the memory store, how they are kept small, and how many there may be.

Plain states are single integers, which need no container of their own: that spares memory and the garbage collector's
time. This module must not know what is asked, nor the time.

A sweep goes round the entries, by two for each new one, and drops those whose debt is over, so that a flood of keys
pays for its own tidying and no thread or timer is needed. The number of entries is bounded: when it is reached, and no
dead entry is next, the one of eight whose debt ends soonest is forgotten, which is the smallest gift.

For points, at which somebody may come in, see `operations.py`. All here is called under the store's lock.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final

from headgate.algorithms import AnyAlgorithm
from headgate.limits import Limit
from headgate.runtime.interned import Interned

Entry = Any
"""A packed state, of a table that has a unit (see `headgate.algorithms`). Or `(state, until_us)`: a state, and the
instant by which it says nothing any more, in microseconds since the epoch."""

_NOTHING: Final = (None, 0)
_SWEEP_EVERY: Final = 64
"""With so many new entries, at most, the sweep moves on."""
_CANDIDATES: Final = 8


class Table:
    """The entries of one limit (one name and algorithm), by key. It lives while it has entries, or somebody asks it."""

    __slots__ = ("__weakref__", "algorithm", "entries", "granted", "is_swept", "places", "unit")

    def __init__(self, algorithm: AnyAlgorithm) -> None:
        self.algorithm = algorithm
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
        """The state that an entry keeps, and until when it says something."""
        if type(entry) is int:
            return self.algorithm.unpack(entry, self.unit)
        found: tuple[Any, int] = _NOTHING if entry is None else entry
        return found

    def entry(self, state: Any, until_us: int) -> Entry:
        """The entry that keeps a state."""
        if self.unit and state is not None and state.__class__ is not str:  # a mark
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
        for _ in range(count):
            # From here to the next one, there is no point.
            try:
                key = places[living]
                entry = entries[key]
            except IndexError:  # there are fewer
                break
            except KeyError:  # not while an entry and its place come and go together
                living += 1
                continue
            if entry > least if entry.__class__ is int else entry[1] > now_us:
                living += 1
            else:
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


class Tables:
    """All tables of a store, by name and algorithm, and the room that they share."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.evicted = 0
        """How many entries were forgotten while they still owed something, for want of room."""
        self.by_owner: Interned[tuple[str, str], Table] = Interned()
        self.swept: deque[Table] = deque()
        """The tables that have entries, in the order in which the sweep comes by."""
        self._left = 0
        """So many entries of the first it has still to look at."""
        self._granted = 0
        """So many entries all tables may have together. This is what `max_entries` bounds."""

    def __len__(self) -> int:
        """How many entries there are, those included whose debt is over but which the sweep has not met yet."""
        return sum([len(table.places) for table in list(self.swept)])

    def table(self, name: str, limit: Limit) -> Table:
        """The table of a limit."""
        owner = (name, limit.code)
        return self.by_owner.get(owner) or self.by_owner.intern(owner, Table(limit.algorithm))

    def all(self) -> list[Table]:
        """All that somebody still needs."""
        return self.by_owner.all()

    def make_room(self, table: Table, now_us: int) -> None:
        """Let a table have some more entries, and have the sweep look at twice as many. A full store forgets one."""
        more = min(_SWEEP_EVERY, len(table.places) // 8 + 1, self.max_entries - self._granted)
        if more > 0:
            self._sweep(2 * more, now_us)
        else:
            more, living = 1, self._sweep(_CANDIDATES, now_us)
            if self._granted >= self.max_entries:
                self._forget_one(living)
        self._grant(table, len(table.places) + more)
        if not table.is_swept:
            table.is_swept = True
            self.swept.append(table)

    def _grant(self, table: Table, entries: int) -> None:
        """Let a table have so many entries, or as many as there is room for."""
        room = self.max_entries - self._granted + table.granted
        if entries > room:  # noqa: PLR1730  # `min` is a call, and a point
            entries = room
        self._granted += entries - table.granted
        table.granted = entries

    def _sweep(self, steps: int, now_us: int) -> dict[Table, int]:
        """Look at the next entries. Drops the dead; returns how many of the living each table now has as its last."""
        tables = self.swept
        living: dict[Table, int] = {}
        while steps > 0 and tables:
            table = tables[0]
            if not table.places:
                self._granted -= table.granted
                table.granted = 0
                table.is_swept = False
                tables.popleft()
                self._left = len(tables[0].places) if tables else 0
            elif self._left <= 0:
                tables.rotate(-1)
                self._left = len(tables[0].places)
            else:
                count = min(steps, self._left)
                steps -= count
                self._left -= count
                living[table] = living.get(table, 0) + table.look(count, now_us)
                self._grant(table, len(table.places))
        return living

    def _forget_one(self, living: dict[Table, int]) -> None:
        """Forget the one of these entries whose debt ends soonest."""
        ends_us = [
            (end_us, back, table) for table, n in living.items() for back, end_us in enumerate(table.ends_us(n), 1)
        ]
        if ends_us:
            _, back, table = min(ends_us, key=itemgetter(0))
            self.evicted += table.forget(back)
            self._grant(table, len(table.places))

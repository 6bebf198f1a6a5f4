"""An entry as it is kept, and what is remembered of the entries that were read or written of late.

This module must not know a limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from headgate.plans.merging import Place

MAX_KNOWN: Final = 10_000
"""How many entries are remembered."""

YIELDS: Final = 8
"""How often others are let go first at a place after a race there was lost, and how often what is remembered is
doubted after it was wrong."""


class Kept(NamedTuple):
    """An entry, as it is kept at a place."""

    revision: int
    """The number of the write; 0 if there is nothing."""
    text: str | None
    """The state; None if nothing is owed."""
    until_us: int
    """From then on, by the store's clock, it says nothing."""

    @classmethod
    def read(cls, revision: int, value: bytes) -> Kept:
        """Read a value, as `written` makes it; an empty one says that nothing is owed.

        :raises ValueError: if it is none of ours.
        """
        if not value:
            return cls(revision, None, 0)
        until_us, separator, text = value.decode().partition(" ")
        if not separator:
            raise ValueError("there is no instant before its state")
        return cls(revision, text, int(until_us))


NOTHING: Final = Kept(0, None, 0)


def written(text: str | None, until_us: int) -> bytes:
    """The value that says this."""
    return b"" if text is None else f"{until_us} {text}".encode()


class Known:
    """Entries as they are remembered: as they were when they were last read or written here. Others may have written
    them since. The one that was not used for longest is forgotten first.
    """

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._entries: dict[Place, Kept] = {}
        self._yields: dict[Place, int] = {}
        """The places where a race was lost, and how often to let others go first from now on."""
        self._shared: dict[Place, int] = {}
        """The places that others write, too, and how often to doubt from now on what is remembered."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, place: Place) -> Kept | None:
        """Recall an entry."""
        return self._entries.get(place)

    def learn(self, place: Place, kept: Kept) -> None:
        """Remember an entry."""
        entries = self._entries
        entries.pop(place, None)
        if len(entries) >= self._most:
            del entries[next(iter(entries))]
        entries[place] = kept

    def forget(self, place: Place) -> None:
        """It is not known what is there."""
        self._entries.pop(place, None)

    def lost(self, place: Place, *, is_race: bool) -> None:
        """Say that somebody else wrote there first: in a race, after it had just been read, or some time ago."""
        for counts in (self._shared, self._yields) if is_race else (self._shared,):
            if len(counts) >= self._most:
                counts.clear()
            counts[place] = YIELDS

    def is_raced(self, places: Iterable[Place]) -> bool:
        """Was a race lost at one of these places of late?"""
        return not self._yields.keys().isdisjoint(places)

    def is_to_yield(self, place: Place) -> bool:
        """Are others to be let go first there? Each answer counts."""
        return _count_down(self._yields, place)

    def is_shared(self, place: Place) -> bool:
        """Did others write there of late, so that what is remembered is to be doubted? Each answer counts."""
        return _count_down(self._shared, place)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


def _count_down(counts: dict[Place, int], place: Place) -> bool:
    left = counts.get(place, 0)
    if left == 1:
        del counts[place]
    elif left:
        counts[place] = left - 1
    return left > 0

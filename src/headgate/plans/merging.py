"""Entries as every store can read and write them: where they lie, and what is to be kept where one comes from another
store, as each algorithm merges two of its states.

This module must not know how entries are read and written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from headgate.limits import KINDS

MARK: Final = "once"
"""The state, and the text, of a mark: that a group was counted which is to count once."""
MARK_ANSWERED: Final = "once answered"
"""The same, of a `spend` of which a repeat was told: from then on, it is not undone."""
MARK_PENDING: Final = "once pending"
"""The same, of a `spend` that is being decided (only where it cannot be written together with the rest)."""
MARKS: Final = (MARK, MARK_ANSWERED, MARK_PENDING)

E = TypeVar("E", bound=tuple[Any, ...])
"""An entry, which begins with its place."""

Told = tuple[str, int]
"""A state's text, and the first instant at which it says nothing any more."""


class Place(NamedTuple):
    """The place of the state of one limit for one key."""

    name: str
    code: str
    key: str
    """With a NUL and a mark behind it, for a mark."""

    @property
    def is_mark(self) -> bool:
        """Does it say that a group was counted which is to count once?"""
        return "\0" in self.key


def pages(entries: Iterable[E], size: int) -> Iterator[list[E]]:
    """Some entries at a time."""
    left = iter(entries)
    while page := list(islice(left, size)):
        yield page


def restore(
    entries: Iterable[E], merge: Callable[[list[E], bool], tuple[list[E], int]], *, size: int, tries: int
) -> int:
    """Have entries merged with what is kept, some at a time, and count those that were written.

    :param merge: merges entries with what is in their places, of which no two are the same. Returns those for which
        something else was there when they were written, and how many were written. It is told when it is asked for some
        for so many times that the next time, others must not come first.
    """
    count = 0
    for page in pages(entries, size):
        waiting, tried = page, 0
        while waiting:
            tried += 1
            first = {entry[:3]: entry for entry in reversed(waiting)}
            later = [entry for entry in waiting if first[entry[:3]] is not entry]
            moved, written = merge(list(first.values()), tried >= tries)
            waiting = later + moved
            count += written
    return count


def to_keep(code: str, key: str, entry: Told, kept: Told | None) -> Told | None:
    """Merge an entry with what is kept in its place: the text and the end to be kept from now on; None if all may stay
    as it is.

    :param kept: what is there and still says something, if anything does.
    :raises ValueError: if a text is no state.
    """
    if kept is None:
        return entry
    until_us = max(entry[1], kept[1])
    if "\0" in key or entry[0] == kept[0]:  # a mark has nothing to tell but until when
        merged = (kept[0], until_us)
    else:
        algorithm = KINDS[code].algorithm
        ours, theirs = algorithm.load(kept[0]), algorithm.load(entry[0])
        state, until_us = algorithm.merge((ours, kept[1]), (theirs, entry[1]))
        merged = (algorithm.dump(state), until_us)
    return merged if merged != kept else None

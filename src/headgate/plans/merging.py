"""Entries that come from another store, and what is kept in their place: what is to be kept from then on.

As each algorithm merges two of its states. This module must not know how entries are read and written.
"""

from __future__ import annotations

from headgate.limits import KINDS

Told = tuple[str, int]
"""A state's text, and the first instant at which it says nothing any more."""


def to_keep(code: str, key: str, entry: Told, kept: Told | None) -> Told | None:
    """Merge an entry with what is kept in its place: the text and its end from then on; None if what is kept may stay.

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

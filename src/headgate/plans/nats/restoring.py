"""Keeping entries that come from another store, each merged with what is kept in its place.

This module must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.plans.merging import Place, to_keep
from headgate.plans.nats.commands import Command, Commit, Moved, Put, Read
from headgate.plans.nats.judging import MAX_TRIES, life_s


class Restored(NamedTuple):
    """An entry that is to be kept."""

    place: Place
    text: str
    until_us: int


def restore(entries: Sequence[Restored], now_us: int, margin_us: int) -> Plan[list[Command], int]:
    """Keep entries, and count those that were written. Asks for lists of commands, which may be carried out side by
    side.

    :raises StoreOutage: if one of them cannot be read or written.
    """
    missing = _by_place(entries, now_us)
    written = 0
    for _ in range(MAX_TRIES):
        if not missing:
            break
        asked = list(missing.values())
        puts = []
        for entry, kept in zip(asked, (yield [Read(entry.place) for entry in asked]), strict=True):
            if isinstance(kept, StoreOutage):
                raise kept
            is_there = kept.text is not None and kept.until_us > now_us
            told = to_keep(
                entry.place.code, entry.place.key, entry[1:], (kept.text, kept.until_us) if is_there else None
            )
            if told is None:
                del missing[entry.place]
            else:
                life = life_s(told[0], told[1] - now_us + margin_us)
                puts.append(Put(entry.place, kept.revision, *told, life))
        if not puts:
            break
        for put, reply in zip(puts, (yield [Commit((put,)) for put in puts]), strict=True):
            if isinstance(reply, StoreOutage):
                raise reply
            if not isinstance(reply, Moved):
                written += 1
                del missing[put.place]
    return written


def _by_place(entries: Sequence[Restored], now_us: int) -> dict[Place, Restored]:
    """Those that still say something, one for each place."""
    found: dict[Place, Restored] = {}
    for entry in entries:
        if entry.until_us <= now_us:
            continue
        known = found.get(entry.place)
        told = to_keep(entry.place.code, entry.place.key, entry[1:], None if known is None else known[1:])
        if told is not None:
            found[entry.place] = Restored(entry.place, *told)
    return found

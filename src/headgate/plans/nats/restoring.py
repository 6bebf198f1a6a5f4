"""Keeping entries that come from elsewhere, each unless what is kept in its place lasts at least as long.

This module must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.plans.nats.judging import MAX_TRIES, Command, Commit, Moved, Put, Read, life_s
from headgate.plans.nats.places import Place


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
    missing = {entry.place: entry for entry in entries if entry.until_us > now_us}
    written = 0
    for _ in range(MAX_TRIES):
        if not missing:
            break
        asked = list(missing.values())
        puts = []
        for entry, kept in zip(asked, (yield [Read(entry.place) for entry in asked]), strict=True):
            if isinstance(kept, StoreOutage):
                raise kept
            if kept.text is not None and kept.until_us >= entry.until_us:
                del missing[entry.place]
            else:
                life = life_s(entry.text, entry.until_us - now_us + margin_us)
                puts.append(Put(entry.place, kept.revision, entry.text, entry.until_us, life))
        if not puts:
            break
        for put, reply in zip(puts, (yield [Commit((put,)) for put in puts]), strict=True):
            if isinstance(reply, StoreOutage):
                raise reply
            if not isinstance(reply, Moved):
                written += 1
                del missing[put.place]
    return written

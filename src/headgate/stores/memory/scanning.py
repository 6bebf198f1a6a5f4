"""Listing, clearing and restoring what is kept in memory, in small steps, so that others come in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

from headgate.clock import Clock
from headgate.limits import KINDS
from headgate.plans.merging import MARKS, to_keep
from headgate.stores.contract import Entry
from headgate.stores.holding import Work, writing
from headgate.stores.memory.operations import Operations
from headgate.stores.memory.tables import Table

_PER_STEP: Final = 200


def scan(operations: Operations, clock: Clock, key_prefix: str, name: str | None, name_prefix: str) -> Iterator[Entry]:
    """As `ScannableStore.scan`."""
    for (own_name, code), table in operations.tables.by_owner.items():
        if (name is None or name == own_name) and own_name.startswith(name_prefix):
            keys = [key for key in list(table.entries) if key.startswith(key_prefix)]
            for at in range(0, len(keys), _PER_STEP):
                with operations.lock:
                    now_us = clock()
                    found = [_text(table, key, now_us) for key in keys[at : at + _PER_STEP]]
                for key, kept in zip(keys[at:], found, strict=False):
                    if kept is not None:
                        yield Entry(own_name, code, key, *kept)


def _text(table: Table, key: str, now_us: int) -> tuple[str, int] | None:
    return _told(table, now_us, *table.find(table.entries.get(key)))


def _told(table: Table, now_us: int, state: Any, until_us: int) -> tuple[str, int] | None:
    """A state as text, if it still says something, and until when."""
    if state is None or until_us <= now_us:
        return None
    return state if state.__class__ is str else table.algorithm.dump(state), until_us


def clear(operations: Operations, clock: Clock, key_prefix: str, name: str | None, name_prefix: str) -> int:
    """As `ScannableStore.clear`."""
    count = 0
    for entry in scan(operations, clock, key_prefix, name, name_prefix):
        table = operations.tables.by_owner.get((entry.name, entry.code))
        if table is not None:
            with operations.lock:
                count += operations.change(table, entry.key, partial(_emptied, clock()))
    return count


def _emptied(now_us: int, state: Any, until_us: int) -> Work | None:
    return None if state is None or until_us <= now_us else writing(None, 0, ())


def restore(operations: Operations, clock: Clock, entries: Iterable[Entry]) -> int:
    """As `ScannableStore.restore`."""
    count = 0
    for entry in entries:
        owner = (entry.name, entry.code)
        algorithm = KINDS[entry.code].algorithm
        fresh = entry.text if entry.text in MARKS else algorithm.load(entry.text)
        tables = operations.tables
        table = tables.by_owner.get(owner) or tables.by_owner.intern(owner, Table(algorithm))
        with operations.lock:
            count += operations.change(table, entry.key, partial(_restored, clock(), table, entry, fresh))
    return count


def _restored(now_us: int, table: Table, entry: Entry, fresh: Any, state: Any, until_us: int) -> Work | None:
    if entry.until_us <= now_us:
        return None
    told = to_keep(entry.code, entry.key, entry[3:], _told(table, now_us, state, until_us))
    if told is None:
        return None
    text, ends_us = told
    if text != entry.text:
        fresh = text if text in MARKS else table.algorithm.load(text)
    return writing(fresh, ends_us, ())

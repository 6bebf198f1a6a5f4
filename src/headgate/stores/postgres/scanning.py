"""Listing, clearing and restoring what is stored, in small steps: for operators, never on the way of a decision."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from headgate.plans import merging
from headgate.plans.merging import Told, pages, to_keep
from headgate.plans.postgres.binary import BYTEA, BYTEA_ARRAY, INT8, bytea_array, int8
from headgate.plans.postgres.places import begin_of, place_of, read_place
from headgate.stores.contract import Entry
from headgate.stores.postgres.connection import Statement
from headgate.stores.postgres.entries import Columns, columns_of, text_of
from headgate.stores.postgres.server import Server

PAGE: Final = 500
"""How many rows are read or written at a time."""
_TEXT: Final = 25
_AFTER: Final = b"\xff"
"""Behind each place that begins likewise: no text in UTF-8 has this byte."""

_SCAN: Final = """
select encode(place, 'hex'), until_us, a, b, c, array_to_json(numbers), array_to_json(notes), array_to_json(names)
from {state} where place > $1 and place < $2
and until_us > coalesce($3, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
order by place limit {page}
"""
_CLEAR: Final = """
with gone as (select place from {state} where place = any ($1) order by place for update)
delete from {state} as known using gone where known.place = gone.place
"""
_SEEN: Final = "md5(row(known.until_us, known.a, known.b, known.c, known.numbers, known.notes, known.names)::text)"
"""By this, a row is known again."""
_READ: Final = """
select coalesce($2, (extract(epoch from clock_timestamp()) * 1000000)::bigint), encode(asked.place, 'hex'),
  case when known.place is not null then {seen} end, until_us, a, b, c, array_to_json(numbers), array_to_json(notes),
  array_to_json(names)
from unnest($1::bytea[]) as asked (place) left join {state} as known on known.place = asked.place
"""
_RESTORE: Final = """
with w as materialized (
  select decode(place, 'hex') as place, seen, until_us, a, b, c, numbers, notes, names, is_manual
  from json_to_recordset($1::json) as w (
    place text, seen text, until_us bigint, a bigint, b bigint, c bigint, numbers bigint[], notes numeric[],
    names text[], is_manual boolean
  )
), locked as materialized (
  select known.place from {state} as known join w on w.place = known.place where w.seen is not null
  order by known.place for update of known
), changed as (
  update {state} as known set
    until_us = w.until_us, a = w.a, b = w.b, c = w.c, numbers = w.numbers, notes = w.notes, names = w.names,
    is_manual = w.is_manual
  from w join locked on locked.place = w.place
  where known.place = w.place and w.seen = {seen}
  returning known.place
), made as (
  insert into {state} (place, until_us, a, b, c, numbers, notes, names, is_manual)
  select place, until_us, a, b, c, numbers, notes, names, is_manual from w where seen is null order by place
  on conflict (place) do nothing returning place
)
select encode(place, 'hex') from changed union all select encode(place, 'hex') from made
"""
_LOCK: Final = "select 1 from {state} where place = any ($1) order by place for update"
_TRIES: Final = 4
"""At the last of so many, a row that others write again and again is locked while it is read and written."""


Execute = Callable[[Statement], Any]
"""Runs a statement, and returns its result."""


def scan(server: Server, key_prefix: str, name: str | None, name_prefix: str) -> Iterator[Entry]:
    """As `ScannableStore.scan`."""
    server.install()
    after = begin_of(server.prefix, name, name_prefix)
    end = after + _AFTER
    while True:
        statement = Statement(
            _text(_SCAN, server), (after, end, _now(server)), (BYTEA, BYTEA, INT8), has_binary_result=False
        )
        result = server.execute(statement)
        for row in range(result.ntuples):
            place, until_us, *values = (result.get_value(row, column) for column in range(8))
            after = bytes.fromhex(place.decode())
            own_name, code, key = read_place(after)
            if key.startswith(key_prefix) and own_name.startswith(name_prefix):
                yield Entry(own_name, code, key, text_of(code, key, _columns(values)), int(until_us))
        if result.ntuples < PAGE:
            return


def clear(server: Server, key_prefix: str, name: str | None, name_prefix: str) -> int:
    """As `ScannableStore.clear`."""
    count = 0
    for page in pages(scan(server, key_prefix, name, name_prefix), PAGE):
        places = sorted(place_of(server.prefix, entry.name, entry.code, entry.key) for entry in page)
        statement = Statement(_text(_CLEAR, server), (bytea_array(places),), (BYTEA_ARRAY,))
        count += server.execute(statement).command_tuples or 0
    return count


def restore(server: Server, entries: Iterable[Entry]) -> int:
    """As `ScannableStore.restore`.

    :raises ValueError: if a text is no state.
    """
    server.install()

    def merge(entries: list[Entry], is_last: bool) -> tuple[list[Entry], int]:
        by_place = {place_of(server.prefix, entry.name, entry.code, entry.key): entry for entry in entries}
        if not is_last:
            return _merge(server, server.execute, by_place)
        with server.transaction() as execute:
            execute(Statement(_text(_LOCK, server), (bytea_array(sorted(by_place)),), (BYTEA_ARRAY,)))
            return _merge(server, execute, by_place)

    return merging.restore(entries, merge, size=PAGE, tries=_TRIES)


def _merge(server: Server, execute: Execute, by_place: dict[bytes, Entry]) -> tuple[list[Entry], int]:
    """As `merging.restore` wants it."""
    rows, wanted = [], set()
    for place, now_us, seen, kept in _read(server, execute, sorted(by_place)):
        entry = by_place[place]
        if entry.until_us <= now_us:
            continue
        told = to_keep(entry.code, entry.key, entry[3:], kept)
        if told is not None:
            wanted.add(place)
            columns = columns_of(entry.code, entry.key, told[0])._asdict()
            is_manual = None if server.learnt.clock is None else True
            rows.append({"place": place.hex(), "seen": seen, "until_us": told[1], "is_manual": is_manual} | columns)
    done: set[bytes] = set()
    if rows:
        statement = Statement(_text(_RESTORE, server), (json.dumps(rows).encode(),), (_TEXT,), has_binary_result=False)
        result = execute(statement)
        done = {bytes.fromhex(result.get_value(row, 0).decode()) for row in range(result.ntuples)}
    return [by_place[place] for place in wanted - done], len(done)


def _read(
    server: Server, execute: Execute, places: list[bytes]
) -> Iterator[tuple[bytes, int, str | None, Told | None]]:
    """By place: the time, the row's digest (None if there is none), and what it says (None if nothing any more)."""
    statement = Statement(
        _text(_READ, server), (bytea_array(places), _now(server)), (BYTEA_ARRAY, INT8), has_binary_result=False
    )
    result = execute(statement)
    for row in range(result.ntuples):
        now, place_in_hex, seen, until, *values = (result.get_value(row, column) for column in range(10))
        place, now_us, until_us = bytes.fromhex(place_in_hex.decode()), int(now), int(until or 0)
        _, code, key = read_place(place)
        told = (text_of(code, key, _columns(values)), until_us) if until_us > now_us else None
        yield place, now_us, None if seen is None else seen.decode(), told


def _columns(values: Sequence[bytes | None]) -> Columns:
    integers = (None if value is None else int(value) for value in values[:3])
    return Columns._make((*integers, *map(_list, values[3:])))


def _now(server: Server) -> bytes | None:
    now_us = server.learnt.now_us()
    return None if now_us is None else int8(now_us)


def _text(statement: str, server: Server) -> bytes:
    return statement.format(state=server.table, page=PAGE, seen=_SEEN).encode()


def _list(value: bytes | None) -> Any:
    return None if value is None else json.loads(value)

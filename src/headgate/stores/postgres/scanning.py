"""Listing, clearing and restoring what is stored, in small steps: for operators, never on the way of a decision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

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
_RESTORE: Final = """
insert into {state} as known (place, until_us, a, b, c, numbers, notes, names, is_manual)
select decode(w.place, 'hex'), w.until_us, w.a, w.b, w.c, w.numbers, w.notes, w.names, w.is_manual
from json_to_recordset($1::json) as w (
  place text, until_us bigint, a bigint, b bigint, c bigint, numbers bigint[], notes numeric[], names text[],
  is_manual boolean
)
where w.until_us > coalesce($2, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
on conflict (place) do update set
  until_us = excluded.until_us, a = excluded.a, b = excluded.b, c = excluded.c, numbers = excluded.numbers,
  notes = excluded.notes, names = excluded.names, is_manual = excluded.is_manual
where known.until_us < excluded.until_us
"""


def scan(server: Server, key_prefix: str, name: str | None) -> Iterator[Entry]:
    """As `ScannableStore.scan`."""
    server.install()
    after = begin_of(server.prefix, name)
    end = after + _AFTER
    while True:
        clock = server.learnt.clock
        now = None if clock is None else int8(clock())
        statement = Statement(_text(_SCAN, server), (after, end, now), (BYTEA, BYTEA, INT8), has_binary_result=False)
        result = server.execute(statement)
        for row in range(result.ntuples):
            place, until_us, a, b, c, numbers, notes, names = (result.get_value(row, column) for column in range(8))
            after = bytes.fromhex(place.decode())
            own_name, code, key = read_place(after)
            if key.startswith(key_prefix):
                integers = (None if value is None else int(value) for value in (a, b, c))
                columns = Columns._make((*integers, *map(_list, (numbers, notes, names))))
                yield Entry(own_name, code, key, text_of(code, key, columns), int(until_us))
        if result.ntuples < PAGE:
            return


def clear(server: Server, key_prefix: str, name: str | None) -> int:
    """As `ScannableStore.clear`."""
    count = 0
    found = scan(server, key_prefix, name)
    while page := list(islice(found, PAGE)):
        places = sorted(place_of(server.prefix, entry.name, entry.code, entry.key) for entry in page)
        statement = Statement(_text(_CLEAR, server), (bytea_array(places),), (BYTEA_ARRAY,))
        count += server.execute(statement).command_tuples or 0
    return count


def restore(server: Server, entries: Iterable[Entry]) -> int:
    """As `ScannableStore.restore`.

    :raises ValueError: if a text is no state.
    """
    server.install()
    count = 0
    left = iter(entries)
    while page := list(islice(left, PAGE)):
        latest: dict[bytes, Entry] = {}
        for entry in page:
            place = place_of(server.prefix, entry.name, entry.code, entry.key)
            if place not in latest or latest[place].until_us < entry.until_us:
                latest[place] = entry
        rows = [
            {
                "place": place.hex(),
                "until_us": entry.until_us,
                "is_manual": None if server.learnt.clock is None else True,
                **columns_of(entry.code, entry.key, entry.text)._asdict(),
            }
            for place, entry in sorted(latest.items())
        ]
        clock = server.learnt.clock
        now = None if clock is None else int8(clock())
        statement = Statement(_text(_RESTORE, server), (json.dumps(rows).encode(), now), (_TEXT, INT8))
        count += server.execute(statement).command_tuples or 0
    return count


def _text(statement: str, server: Server) -> bytes:
    return statement.format(state=server.table, page=PAGE).encode()


def _list(value: bytes | None) -> Any:
    return None if value is None else json.loads(value)

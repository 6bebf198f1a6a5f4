"""Values as Redis keeps them, and entries as every store reads them: one from the other, in both directions.

What each algorithm's script stores is told at its head, in Lua. Until when it says something is exact where the value
tells it, and otherwise at most a millisecond later than it is: that is how the server keeps it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from headgate.algorithms import texts, token_bucket
from headgate.algorithms.token_bucket_notes import Notes
from headgate.hits import marked_key
from headgate.keys import read_storage_key, storage_key
from headgate.limits import KINDS
from headgate.plans.merging import MARK, Place
from headgate.plans.redis.packing import MARKED
from headgate.plans.redis.resp import command
from headgate.plans.redis.script import joined

_TYPES: Final = {"tb": "string", "fw": "string", "sw": "string", "sl": "list", "pn": "list", "cc": "set"}
MOVED_ON: Final = -1
"""The reply to a `restore_call` where there is something else than was seen."""
_NUMBERS: Final = re.compile(r"\d+( \d+)*")


class Stored(NamedTuple):
    """An entry, as it is kept."""

    kind: str
    """`string`, `list` or `set` (a sorted one)."""
    values: list[str]


def place_of(prefix: str, stored_key: bytes) -> Place | None:
    """The place of what is kept there; None if it is not ours."""
    try:
        text = stored_key.decode()
    except UnicodeDecodeError:
        return None
    mark = ""
    found = read_storage_key(prefix, text)
    if found is None or found[2] not in KINDS:
        text, _, mark = text.rpartition(MARKED)
        found = read_storage_key(prefix, text) if mark else None
    if found is None or found[2] not in KINDS:
        return None
    key, name, code = found
    return Place(name, code, marked_key(key, mark) if mark else key)


def stored_key_of(prefix: str, place: Place) -> str:
    """The key by which the server keeps what is at a place."""
    key, _, mark = place.key.partition("\0")
    stored_key = storage_key(prefix, key, place.name, place.code)
    return f"{stored_key}{MARKED}{mark}" if mark else stored_key


def pattern_of(prefix: str, key_prefix: str) -> str:
    """The pattern that keys of ours match which begin with `key_prefix`."""
    begin = storage_key(prefix, f"{key_prefix}\0", "", "").partition("\0")[0]
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", begin) + "*"


def read_call(prefix: str, place: Place, now_us: int | None) -> bytes:
    """The packed call that reads an entry."""
    kind = "string" if place.is_mark else _TYPES[place.code]
    return _call("read_entry.lua", stored_key_of(prefix, place), "" if now_us is None else now_us, kind)


def remove_call(prefix: str, place: Place) -> bytes:
    """The packed call that removes an entry. The reply is how many there were."""
    return command("UNLINK", stored_key_of(prefix, place))


def restore_call(prefix: str, place: Place, text: str, until_us: int, now_us: int | None, seen: str = "") -> bytes:
    """The packed call that keeps an entry in place of what was `seen` there, or of anything. The reply is 1 if it was
    written, 0 if it says nothing any more, and `MOVED_ON` where there is something else by now.

    :param seen: the digest of what was read, as `seen_in` tells it.
    :raises ValueError: if the text is no state.
    """
    key = stored_key_of(prefix, place)
    kind, values = to_stored(place, text)
    now = "" if now_us is None else now_us
    return _call("restore_entry.lua", key, now, until_us, kind, seen, *values)


def _call(file: str, key: str, *words: str | int) -> bytes:
    return command("EVAL", _script(file), 1, key, *words)


@functools.cache
def _script(file: str) -> str:
    return joined("clock.lua", "prelude.lua", "entry_values.lua", file)


def read_reply(place: Place, reply: Any) -> tuple[str, int] | None:
    """The text and the `until_us` that a reply tells; None if there is nothing there, or it is not ours."""
    if type(reply) is not list:
        return None
    now_us, left_ms, values = reply
    if left_ms < 0 or not values:
        return None
    kept_until_us = (now_us // 1_000 + left_ms) * 1_000 - 1  # the last that is kept for as long
    try:
        text, until_us = from_stored(place, [value.decode() for value in values])
    except (ValueError, UnicodeDecodeError, IndexError):
        return None
    until_us = kept_until_us if until_us is None else until_us
    return (text, until_us) if until_us > now_us else None


def seen_in(reply: Any) -> str:
    """A digest of the values that a reply tells, by which the server knows them again."""
    values = reply[2] if type(reply) is list else []
    return hashlib.sha1(b"\n".join(values), usedforsecurity=False).hexdigest()


def from_stored(place: Place, values: Sequence[str]) -> tuple[str, int | None]:
    """The text, and until when it says something, if the values tell.

    :raises ValueError: if they are no state.
    """
    code = place.code
    if place.is_mark:
        return MARK, None
    if code == "cc":
        slots = sorted((int(float(expiry)), slot) for slot, expiry in zip(values[::2], values[1::2], strict=True))
        text = texts.flat(*[field for expiry, slot in slots for field in (expiry, texts.escaped(slot))])
        return text, slots[-1][0]
    if code == "sl":
        return " ".join((texts.VERSION, *values[1:])), None
    if code == "pn":
        return (
            (texts.flat(int(values[0][1:])), int(values[0][1:]))
            if values[0][0] == "="
            else (texts.flat(0, *values), None)
        )
    if not _NUMBERS.fullmatch(values[0]):
        raise ValueError(f"{values[0]!r} is no state")
    return _bucket(values[0]) if code == "tb" else (f"{texts.VERSION} {values[0]}", None)


def _bucket(value: str) -> tuple[str, int]:
    """As `from_stored`, of a token bucket."""
    q, r, rate, *noted = [*map(int, value.split(" ")), *([0, 1] if " " not in value else [])]
    tat = q * rate + r
    notes = None
    until_us = -(-tat // rate)
    if noted:
        stamp_us, credited_q, credited_r, kept_until_us, waiting_until_us, count, *rest = noted
        spans = tuple(
            (begin_q * rate + begin_r, end_q * rate + end_r)
            for begin_q, begin_r, end_q, end_r in zip(*[iter(rest)] * 4, strict=True)
        )
        credited = credited_q * rate + credited_r
        notes = Notes(stamp_us, credited, kept_until_us, waiting_until_us, spans[:count], spans[count:])
        until_us = max(until_us, kept_until_us if credited > 0 else 0)
    return token_bucket.dump((tat, rate, notes)), until_us


def to_stored(place: Place, text: str) -> Stored:
    """An entry's text as it is kept.

    :raises ValueError: if it is none.
    """
    code = place.code
    if place.is_mark:
        return Stored("string", ["1"])
    state = KINDS[code].algorithm.load(text)
    if code == "tb":
        return Stored("string", [_stored_bucket(*state)])
    if code in ("fw", "sw"):
        return Stored("string", [" ".join(map(str, state))])
    if code == "sl":
        hits = list(state.hits())
        return Stored("list", [str(sum(cost for _, cost in hits)), *[f"{instant} {cost}" for instant, cost in hits]])
    if code == "pn":
        ends, instants = state
        return Stored("list", [f"={ends}"] if ends else list(map(str, instants)))
    return Stored("set", [field for slot, expiry in state.slots.items() for field in (str(expiry), slot)])


def _stored_bucket(tat: int, rate: int, notes: Notes | None) -> str:
    if notes is None and tat % rate == 0:
        return str(tat // rate)
    numbers = [*divmod(tat, rate), rate]
    if notes is not None:
        numbers += [notes.stamp_us, *divmod(notes.credited, rate), notes.kept_until_us, notes.waiting_until_us]
        numbers.append(len(notes.vacancies))
        for begin, end in notes.vacancies + notes.returned:
            numbers += [*divmod(begin, rate), *divmod(end, rate)]
    return " ".join(map(str, numbers))

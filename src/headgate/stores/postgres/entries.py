"""Rows as the texts that every store can read, and texts as rows.

This module must not know how rows are read and written.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

from headgate.algorithms import concurrency, sliding_log, texts
from headgate.algorithms.token_bucket_notes import Notes
from headgate.limits import KINDS
from headgate.plans.merging import MARK


class Columns(NamedTuple):
    """The columns of a row that have the state: see the head of each algorithm's SQL."""

    a: int | None = None
    b: int | None = None
    c: int | None = None
    numbers: list[int] | None = None
    notes: list[int] | None = None
    names: list[str] | None = None


def text_of(code: str, key: str, columns: Columns) -> str:
    """The state in a row, as `Entry.text`."""
    if "\0" in key:
        return MARK
    return KINDS[code].algorithm.dump(state_of(code, columns))


def columns_of(code: str, key: str, text: str) -> Columns:
    """The columns of a state that is given as its text.

    :raises ValueError: if the text is no state.
    """
    if "\0" in key:
        return Columns()
    state: Any = KINDS[code].algorithm.load(text)
    if code == "tb":
        tat, rate, notes = state
        noted = None
        if notes is not None:
            spans = chain.from_iterable(notes.vacancies + notes.returned)
            noted = [*notes[:4], len(notes.vacancies), *spans]
        return Columns(tat // rate, tat % rate, rate, None, noted)
    if code in ("fw", "sw"):
        return Columns(*state)
    if code == "sl":
        return Columns(state.total, numbers=list(chain.from_iterable(state.hits())))
    if code == "cc":
        slots = sorted((expiry, slot) for slot, expiry in state.slots.items())
        return Columns(numbers=[expiry for expiry, _ in slots], names=[texts.escaped(slot) for _, slot in slots])
    return Columns(state[0], numbers=list(state[1]))


def state_of(code: str, columns: Columns) -> Any:
    """The state in a row, as its algorithm in Python has it."""
    a, b, c, numbers, notes, names = columns
    if code == "tb":
        assert a is not None
        assert b is not None
        assert c is not None
        if notes is None:
            return a * c + b, c, None
        stamp_us, credited, kept_until_us, waiting_until_us, count, *bounds = notes
        spans = tuple(zip(bounds[::2], bounds[1::2], strict=True))
        return a * c + b, c, Notes(stamp_us, credited, kept_until_us, waiting_until_us, spans[:count], spans[count:])
    if code == "fw":
        return a, b
    if code == "sw":
        return a, b, c
    if code == "sl":
        known = numbers or []
        return sliding_log.State(zip(known[::2], known[1::2], strict=True))
    if code == "cc":
        state = concurrency.State()
        slots = [texts.plain(name) for name in names or ()]
        state.slots = dict(zip(slots, numbers or (), strict=True))
        state.order = sorted(zip(numbers or (), slots, strict=True))
        return state
    return a, tuple(numbers or ())

"""How the memory store changes its entries: one operation at a time, by whoever has its lock, and calls within calls.

A signal handler, or a `__del__` that the garbage collector runs, may ask in the middle of a call of the same thread,
which it has to let in: the lock is one that a thread may take again. Python lets handlers in after calls, at the entry
of functions, where loops go back, and (before 3.12) where containers are made, and nowhere else. Such a place is a
*point*. So:

- What has no point between reading an entry and writing it needs nothing more. That is the fast path of single hits.
- All else is an *operation*, of which the store has one at a time. It judges, and while nobody has come in, says in one
  step what it writes. Who comes in before that begins an operation of his own, and the other one judges anew; who comes
  in after it does the writing first, each part of which is done once, however often it is begun. An operation that an
  exception ended half-way is seen to in the same way, by whoever comes next.

docs/decisions/0012-calls-within-calls.md has the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headgate.algorithms import Facts, sliding_log
from headgate.clock import Clock
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.keys import check_key
from headgate.limits import Limit
from headgate.runtime.locks import lock
from headgate.stores.holding import Work, decided, judge
from headgate.stores.memory.tables import Entry, Table, Tables

_Place = tuple[Table, str, Entry]
"""`(table, key, seen)`: `seen` is the entry that was judged, None if there was none."""


class _Operation:
    """A change that is being made under the lock."""

    __slots__ = ("facts", "is_over", "parts")

    def __init__(self) -> None:
        self.parts: Sequence[tuple[_Place, Work]] | None = None
        """The places that it writes, each with the work; None while it judges."""
        self.facts: tuple[Facts, ...] = ()
        self.is_over = False
        """Is it written?"""


class Operations:
    """The changes of a store's entries. All but `table_in` is called under the lock."""

    def __init__(self, clock: Clock, tables: Tables) -> None:
        self.lock = lock()
        self.tables = tables
        self.under_way: _Operation | None = None
        """The operation that was begun last, if it has not ended."""
        self._clock = clock

    def table_in(self, unit: int, limit: Limit, name: str) -> Table:
        """The table of a limit, whose plain states are packed in this unit from now on."""
        table = self.tables.table(name, limit)
        with self.lock:
            while table.unit != unit:
                operation = self.begin()
                made = table.counted_in(unit)
                before = table.entries
                if self.under_way is operation:  # nobody has come in
                    table.unit = unit
                    table.entries = made.entries
                    table.places = made.places
                    before.clear()  # who holds on to them finds nothing there
                self.end(operation)
            return table

    def begin(self) -> _Operation:
        """Begin an operation, when what an earlier one has said that it writes is written."""
        before = self.under_way
        if before is not None and before.parts is not None:
            self._carry_out(before)
        operation = self.under_way = _Operation()
        return operation

    def end(self, operation: _Operation) -> None:
        """End an operation, unless somebody has come in, and has seen to that."""
        if self.under_way is operation:
            self.under_way = None

    def decide(self, groups: Sequence[Group]) -> list[Decision]:
        """Judge a batch."""
        decisions = []
        operation, now_us = self.begin(), self._clock()
        for group in groups:
            while True:
                verdict, parts, facts = judge(group, now_us, self._find)
                if self.under_way is operation:
                    operation.parts = parts  # nobody has come in: from here on, it is as good as done
                    break
                operation, now_us = self.begin(), self._clock()  # who has come in was later than we
            if parts:
                self._carry_out(operation)
                facts = facts or operation.facts
            decisions.append(decided(group, now_us, verdict, facts))
            if self.under_way is operation:
                self.under_way = operation = _Operation()
        self.end(operation)
        return decisions

    def change(self, table: Table, key: str, work_on: Callable[[Any, int], Work | None]) -> bool:
        """Change an entry by what is done to its state and its `until_us`, if that is anything."""
        while True:
            operation = self.begin()
            seen = table.entries.get(key)
            work = work_on(*table.find(seen))
            if self.under_way is operation:  # nobody has come in
                break
        if work is not None:
            operation.parts = [((table, key, seen), work)]
            self._carry_out(operation)
        self.end(operation)
        return work is not None

    def _find(self, name: str, limit: Limit, key: str) -> tuple[_Place, Any, int]:
        table = self.tables.table(name, limit)
        seen = table.entries.get(key)
        return (table, key, seen), *table.find(seen)

    def _carry_out(self, operation: _Operation) -> None:
        """Write what an operation has said that it writes. Whoever comes in meanwhile does all of it before he goes
        on.
        """
        facts = []
        for (table, key, seen), work in operation.parts or ():
            written = work()
            if written is None:  # whoever came in has done all
                return
            state, until_us, told = written
            facts += [told] if told else []
            log = seen[0] if seen.__class__ is tuple else None
            if (
                log.__class__ is sliding_log.State
                and log is not state
                and not (state is None and key not in table.entries)
            ):
                # Somebody may be about to add to this log, who has read it before he was interrupted.
                fresh = sliding_log.State() if state is None else state
                if operation.is_over:
                    return
                log.entries = fresh.entries
                state = log
            while True:
                is_new = key not in table.entries and state is not None
                if is_new and (len(table.places) >= table.granted or not table.is_swept):
                    self.tables.make_room(table, self._clock())
                entry = table.entry(state, until_us)
                entries, places = table.entries, table.places
                if operation.is_over:
                    return
                # From here on, there is no point until it is written, and has its place.
                if key in entries:
                    if entries[key] is seen:  # or else, it has been written
                        entries[key] = entry  # without a state it is dead, and the sweep will drop it
                    break
                if state is None:
                    break
                if table.is_swept:
                    entries[key] = entry
                    places.append(key)
                    break
        told_all = tuple(facts)
        if not operation.is_over:
            operation.facts = told_all
            operation.is_over = True

    def decide_single(self, limit: Limit, key: str, name: str, cost: int) -> Decision:
        """Judge a single hit."""
        return self.decide([Group((Hit(limit, check_key(key), name, cost),))])[0]

"""The memory store: one process, any number of threads and tasks.

State lives in dicts under one lock, which is all the atomicity there is: it does not lean on the GIL. A sweep goes round
the entries, by two for each new one, and drops those whose debt is over, so that a flood of keys pays for its own
tidying and no thread or timer is needed. The number of entries is bounded: when it is reached, and no dead entry is
next, the one of eight whose debt ends soonest is forgotten, which is the smallest gift.

**Calls within calls.** A signal handler, or a `__del__` that the garbage collector runs, may ask in the middle of a
call of the same thread, which it has to let in: the lock is one that a thread may take again. Python lets handlers in
after calls, at the entry of functions, where loops go back, and (before 3.12) where containers are made, and nowhere
else. Such a place is a *point*. So:

- What has no point between reading an entry and writing it needs nothing more. That is the fast path of single hits.
- All else is an *operation*, of which the store has one at a time. It judges, and while nobody has come in, says in one
  step what it writes. Who comes in before that begins an operation of his own, and the other one judges anew; who comes
  in after it does the writing first, each part of which is done once, however often it is begun. An operation that an
  exception ended half-way is seen to in the same way, by whoever comes next.

docs/decisions/0012-calls-within-calls.md has the whole of it, and 0013 what the fast paths are measured by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from headgate.algorithms import Facts, fixed_window, sliding_log, sliding_window
from headgate.clock import Clock, in_nanoseconds, system_clock
from headgate.decision import BucketDecision, Decision, Single, ToldDecision, WindowDecision
from headgate.errors import InvalidUse
from headgate.hits import Group, Hit
from headgate.keys import check_key
from headgate.limits import Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.runtime.interned import Interned
from headgate.runtime.locks import lock
from headgate.stores.holding import Work, judge
from headgate.stores.tables import NOTHING, Entry, Table

_SWEEP_EVERY: Final = 32
"""With so many new entries, at most, the sweep moves on."""
_CANDIDATES: Final = 8

_Place = tuple[Table, str, Entry]
"""`(table, key, seen)`: `seen` is the entry that was judged, None if there was none."""


class _Operation:
    """What is being done under the lock: see the module."""

    __slots__ = ("facts", "is_over", "parts")

    def __init__(self) -> None:
        self.parts: Sequence[tuple[_Place, Work]] | None = None
        """What it writes; None while it judges."""
        self.facts: tuple[Facts, ...] = ()
        self.is_over = False
        """Is it written?"""


class MemoryStore:
    """State in this process's memory. Safe to share between threads, tasks, signal handlers and forked processes.

    :param clock: what tells the time; the system's clock by default, a `ManualClock` in tests.
    :param max_entries: how many (key, limit) pairs are remembered at most.
    """

    timeout = float("inf")

    def __init__(self, clock: Clock = system_clock, *, max_entries: int = 1_000_000) -> None:
        if max_entries < 1:
            raise InvalidUse(f"max_entries must be at least 1, not {max_entries}")
        self._clock = clock
        self._max_entries = max_entries
        self._tables: Interned[tuple[str, str], Table] = Interned()
        """By name and algorithm."""
        self._round: deque[Table] = deque()
        """The tables that have entries, in the order in which the sweep comes by."""
        self._left = 0
        """So many entries of the first it has still to look at."""
        self._granted = 0
        """So many entries all tables may have together. This is what `max_entries` bounds."""
        self._lock = lock()
        self._under_way: _Operation | None = None
        """The operation that was begun last, if it has not ended."""
        self._evicted = 0

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self)} entries>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidUse(
            "a store in memory cannot be pickled, nor copied: what it counts is in this process alone. Give limiters "
            "that processes share a URL, such as store='redis://...', or make one in each process"
        )

    def __len__(self) -> int:
        """How many entries are held, those included whose debt is over but which the sweep has not met yet."""
        return sum([len(table.places) for table in list(self._round)])

    @property
    def evicted(self) -> int:
        """How many entries were forgotten while they still owed something, for want of room."""
        return self._evicted

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch under the lock."""
        with self._lock:
            return self._decide(groups)

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch; nothing is awaited."""
        return self.decide(groups)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._begin()  # what is under way here is to judge anew
            for table in self._tables.all():
                table.clear()

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()

    # Single hits

    def single(self, limit: Limit, name: str) -> Single:
        """What decides on single hits of `limit`, by key and cost: the same as a batch of one, without making one.

        It leaves to others (None) what is no plain key, and no cost from 1 to the capacity.
        """
        if isinstance(limit, SlidingWindow):
            return self._single_sliding(limit, name)
        if isinstance(limit, TokenBucket) or (limit.algorithm is fixed_window and limit.is_plain):
            return self._single_rising(limit, name)
        if isinstance(limit, SlidingLog):
            return self._single_in_log(limit, name)
        return self._single_otherwise(limit, name)

    def single_async(self, limit: Limit, name: str) -> Single:
        """The same: nothing is awaited."""
        return self.single(limit, name)

    def submitting(self, limit: Limit, name: str) -> None:
        """Nothing: nobody waits here."""

    def _single_rising(self, limit: Limit, name: str) -> Single:
        """As `single`, for states that are packed into a number which rises with time and with what is spent: the
        theoretical arrival time of a token bucket, and the fixed window with its count. It is the algorithm's `judge`
        with `spend` or `keep` in one.
        """
        if isinstance(limit, TokenBucket):
            token, tolerance, unit = limit.arguments(1, 0, "")
            grid, scale, make = 1, unit, BucketDecision
        else:
            token, tolerance, unit = limit.arguments(1, 0, "")
            grid, scale, make = unit, 1 << fixed_window.SPENT_BITS, WindowDecision
        table, capacity = self._counted_in(unit, limit, name), limit.capacity
        entries, add_place = table.entries, table.places.append
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        asked = (limit, name)

        def single(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int:
                return None
            if cost == 1:
                increment = token
            elif 0 < cost <= capacity:
                increment = cost * token
            else:
                return None
            with lock:
                now_us = time_ns() // 1_000
                now = now_us * scale if grid == 1 else now_us // grid * scale
                if key in entries:
                    # From here on, there is no point until it is written.
                    if self._under_way is not None or (told := entries[key]).__class__ is not int:
                        return self._decide_single(limit, key, name, cost)
                    if told < now:  # noqa: PLR1730  # `max` takes longer than all the sums here
                        told = now
                    spent = told + increment
                    full = now + tolerance
                    if is_allowed := spent <= full:
                        entries[key] = told = spent
                    elif told > full:  # more than full: the clock has stepped back, or more was charged
                        return self._decide_single(limit, key, name, cost)
                else:
                    if not key.isascii() or not 0 < len(key) <= 256 or "\0" in key:
                        check_key(key)
                    if len(entries) >= table.granted:
                        self._make_room(table, now_us)
                    # From here on, there is no point until it is written, and has its place.
                    if (
                        self._under_way is not None
                        or key in entries
                        or not table.is_swept
                        or table.entries is not entries
                    ):
                        return self._decide_single(limit, key, name, cost)
                    entries[key] = told = now + increment
                    add_place(key)
                    is_allowed = True
            decision = make()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = told
            return decision

        return single

    def _single_sliding(self, limit: SlidingWindow, name: str) -> Single:
        """As `single`, for packed states of the sliding window, with its `judge` and `spend` or `keep` in one."""
        _, most, period, step, steps = limit.arguments(1, 0, "")
        table = self._counted_in(period, limit, name)
        entries, add_place = table.entries, table.places.append
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        asked, bits, window = (limit, name), sliding_window.SPENT_BITS, 1 << 2 * sliding_window.SPENT_BITS
        counts = (1 << bits) - 1

        def single(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= most:
                return None
            with lock:
                now_us = time_ns() // 1_000
                number = now_us // period
                now = number * window
                if key in entries:
                    # From here on, there is no point until it is written.
                    if self._under_way is not None or (told := entries[key]).__class__ is not int:
                        return self._decide_single(limit, key, name, cost)
                    ahead = told - now
                    if ahead < 0:  # what was the current window is the previous one, or older than that
                        ahead = told >> bits & counts if ahead >= -window else 0
                    elif ahead >= window:  # the clock has stepped back
                        return self._decide_single(limit, key, name, cost)
                    room = most - (ahead >> bits)
                    if previous := ahead & counts:
                        if previous > most:
                            return self._decide_single(limit, key, name, cost)
                        left = -((now_us - (number + 1) * period) // step)
                        if left > steps:  # noqa: PLR1730  # `min` takes longer
                            left = steps
                        room += -(previous * left) // steps
                    told = now + ahead
                    if is_allowed := cost <= room:
                        entries[key] = told = told + (cost << bits)
                else:
                    if not key.isascii() or not 0 < len(key) <= 256 or "\0" in key:
                        check_key(key)
                    if len(entries) >= table.granted:
                        self._make_room(table, now_us)
                    # From here on, there is no point until it is written, and has its place.
                    if (
                        self._under_way is not None
                        or key in entries
                        or not table.is_swept
                        or table.entries is not entries
                    ):
                        return self._decide_single(limit, key, name, cost)
                    entries[key] = told = now + (cost << bits)
                    add_place(key)
                    is_allowed = True
            decision = WindowDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = told
            return decision

        return single

    def _single_in_log(self, limit: SlidingLog, name: str) -> Single:
        """As `single`, for logs. A log of one hit is packed; others are changed in place."""
        _, most, period = arguments = limit.arguments(1, 0, "")
        table = self._counted_in(period, limit, name)
        entries, add_place = table.entries, table.places.append
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        asked, hit, bits = (limit, name), sliding_log.fast_path(arguments), sliding_log.COST_BITS

        def single(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= most:
                return None
            with lock:
                now_us = time_ns() // 1_000
                if key in entries:
                    seen = entries[key]
                    if self._under_way is not None:
                        return self._decide_single(limit, key, name, cost)
                    if seen.__class__ is int and seen < now_us - period + 1 << bits:
                        entries[key] = (now_us << bits) + cost  # with no point since it was read
                        is_allowed, facts = True, (cost, now_us, 0)
                    else:
                        state, until_us = sliding_log.unpack(seen, period) if seen.__class__ is int else seen
                        found = hit(state if until_us > now_us else None, now_us, cost)
                        if found is None:
                            return self._decide_single(limit, key, name, cost)
                        is_allowed, state, until_us, facts = found
                        if is_allowed:
                            entry = (state, until_us)
                            if key in entries and (known := entries[key]) is seen:
                                entries[key] = entry
                            elif key in entries and known.__class__ is tuple and known[0] is state:
                                if known[1] < until_us:
                                    entries[key] = entry
                            else:  # somebody came in, and what we have read of it is not what there is
                                return self._decide_single(limit, key, name, cost)
                else:
                    check_key(key)
                    if len(entries) >= table.granted:
                        self._make_room(table, now_us)
                    # From here on, there is no point until it is written, and has its place.
                    if (
                        self._under_way is not None
                        or key in entries
                        or not table.is_swept
                        or table.entries is not entries
                    ):
                        return self._decide_single(limit, key, name, cost)
                    entries[key] = (now_us << bits) + cost
                    add_place(key)
                    is_allowed, facts = True, (cost, now_us, 0)
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = facts
            return decision

        return single

    def _single_otherwise(self, limit: Limit, name: str) -> Single:
        """As `single`, for limits that have no fast path."""
        capacity = limit.capacity

        def single(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int or not 0 < cost <= capacity:
                return None
            with self._lock:
                return self._decide_single(limit, key, name, cost)

        return single

    def _decide_single(self, limit: Limit, key: str, name: str, cost: int) -> Decision:
        return self._decide([Group((Hit(limit, check_key(key), name, cost),))])[0]

    # Tables

    def _table(self, name: str, limit: Limit) -> Table:
        owner = (name, limit.code)
        return self._tables.get(owner) or self._tables.intern(owner, Table(limit))

    def _counted_in(self, unit: int, limit: Limit, name: str) -> Table:
        """The table of a limit, whose plain states are packed in this unit from now on."""
        table = self._table(name, limit)
        with self._lock:
            while table.unit != unit:
                operation = self._begin()
                made = table.counted_in(unit)
                before = table.entries
                if self._under_way is operation:  # nobody has come in
                    table.unit = unit
                    table.entries = made.entries
                    table.places = made.places
                    before.clear()  # who holds on to them finds nothing there
                self._end(operation)
            return table

    # Operations

    def _begin(self) -> _Operation:
        """Begin an operation, when what an earlier one has said that it writes is written."""
        before = self._under_way
        if before is not None and before.parts is not None:
            self._carry_out(before)
        operation = self._under_way = _Operation()
        return operation

    def _end(self, operation: _Operation) -> None:
        if self._under_way is operation:
            self._under_way = None

    def _decide(self, groups: Sequence[Group]) -> list[Decision]:
        decisions = []
        operation, now_us = self._begin(), self._clock()
        for group in groups:
            while True:
                allowed, parts, facts = judge(group, now_us, self._find)
                if self._under_way is operation:
                    operation.parts = parts  # nobody has come in: from here on, it is as good as done
                    break
                operation, now_us = self._begin(), self._clock()  # who has come in was later than we
            if parts:
                self._carry_out(operation)
                facts = facts or operation.facts
            decisions.append(Decision(group, now_us, allowed, facts))
            if self._under_way is operation:
                self._under_way = operation = _Operation()
        self._end(operation)
        return decisions

    def _find(self, name: str, limit: Limit, key: str) -> tuple[_Place, Any, int]:
        table = self._table(name, limit)
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
            if log.__class__ is sliding_log.State and log is not state and not (state is None and key not in table.entries):
                # Somebody may be about to add to this log, who has read it before he was interrupted.
                fresh = sliding_log.State() if state is None else state
                if operation.is_over:
                    return
                log.entries = fresh.entries
                state = log
            while True:
                is_new = key not in table.entries and state is not None
                if is_new and (len(table.places) >= table.granted or not table.is_swept):
                    self._make_room(table, self._clock())
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

    # Room

    def _make_room(self, table: Table, now_us: int) -> None:
        """Let a table have some more entries, and have the sweep look at twice as many. A full store forgets one."""
        more = min(_SWEEP_EVERY, len(table.places) // 8 + 1, self._max_entries - self._granted)
        if more > 0:
            self._sweep(2 * more, now_us)
        else:
            more, living = 1, self._sweep(_CANDIDATES, now_us)
            if self._granted >= self._max_entries:
                self._forget_one(living)
        self._grant(table, len(table.places) + more)
        if not table.is_swept:
            table.is_swept = True
            self._round.append(table)

    def _grant(self, table: Table, entries: int) -> None:
        """Let a table have so many entries, or as many as there is room for."""
        room = self._max_entries - self._granted + table.granted
        if entries > room:
            entries = room
        self._granted += entries - table.granted
        table.granted = entries

    def _sweep(self, steps: int, now_us: int) -> dict[Table, int]:
        """Look at the next entries. Drops the dead; returns how many of the living each table now has as its last."""
        tables = self._round
        living: dict[Table, int] = {}
        while steps > 0 and tables:
            table = tables[0]
            if not table.places:
                self._granted -= table.granted
                table.granted = 0
                table.is_swept = False
                tables.popleft()
                self._left = len(tables[0].places) if tables else 0
            elif self._left <= 0:
                tables.rotate(-1)
                self._left = len(tables[0].places)
            else:
                count = min(steps, self._left)
                steps -= count
                self._left -= count
                living[table] = living.get(table, 0) + table.look(count, now_us)
                self._grant(table, len(table.places))
        return living

    def _forget_one(self, living: dict[Table, int]) -> None:
        """Forget the one of these entries whose debt ends soonest."""
        ends_us = [(end_us, back, table) for table, n in living.items() for back, end_us in enumerate(table.ends_us(n), 1)]
        if ends_us:
            _, back, table = min(ends_us, key=itemgetter(0))
            self._evicted += table.forget(back)
            self._grant(table, len(table.places))

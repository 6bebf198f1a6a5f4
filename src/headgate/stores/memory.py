"""The memory store: one process, any number of threads and tasks.

State lives in a dict under one lock, which is all the atomicity there is: it does not lean on the GIL. A hand goes
round the entries, by two for each new one, and drops those whose debt is over, so that a flood of keys pays for its
own tidying and no thread or timer is needed. The number of entries is bounded: when it is reached, and no dead
entry is near the hand, the one of eight whose debt ends soonest is forgotten, which is the smallest gift.

**Calls within calls.** A signal handler, or a `__del__` that the garbage collector runs, may ask in the middle of a
call of the same thread, which it has to let in: the lock is one that a thread may take again. Python lets handlers in
after calls, at the entry of functions, where loops go back, and (before 3.12) where containers are made, and nowhere
else. So:

- What has no such place between reading an entry and writing it needs nothing more. That is the way of single hits.
- All else is an *operation*, of which the store has one at a time. It judges, and while nobody has come in, says in one
  step what it writes. Who comes in before that begins an operation of his own, and the other one judges anew; who comes
  in after it does the writing first, each part of which is done once, however often it is begun. An operation that an
  exception ended half-way is seen to in the same way, by whoever comes next.

docs/decisions/0012-calls-within-calls.md has the whole of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from headgate.algorithms import Facts, FastPath, sliding_log
from headgate.clock import Clock, in_nanoseconds, system_clock
from headgate.decision import Decision, Single, ToldDecision
from headgate.errors import InvalidUse
from headgate.hits import Group, Hit
from headgate.keys import check_key
from headgate.limits import Concurrency, Limit, TokenBucket
from headgate.runtime.interned import Interned
from headgate.runtime.locks import lock

_SWEEP_EVERY: Final = 32
"""With so many new entries, at most, the hand moves on."""
_CANDIDATES: Final = 8

_Entry = Any
"""`(state, until_us)`: a state, and the instant by which it says nothing any more, in microseconds since the epoch.
Or, for a token bucket to which nothing was given back, just its theoretical arrival time, in parts of the table's
`rate`."""


class _Table:
    """The entries of one limit (one name and algorithm), by key. It lives while it has entries, or somebody asks it."""

    __slots__ = ("__weakref__", "entries", "rate")

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.rate = 0
        """Of token buckets: the parts per microsecond in which plain entries are counted. 0: there are none."""

    def find(self, entry: _Entry) -> tuple[Any, int]:
        """What an entry says: a state, and until when."""
        if type(entry) is int:
            return (entry, self.rate, None), -(-entry // self.rate)
        found: tuple[Any, int] = _NOTHING if entry is None else entry
        return found

    def entry(self, state: Any, until_us: int) -> _Entry:
        """What keeps a state."""
        if self.rate and state is not None and state[1] == self.rate and state[2] is None:
            return state[0]
        return state, until_us


_NOTHING: Final = (None, 0)
_MARKED: Final = (0, 0, ())
"""The state of a mark: that a group was counted which is to count once."""
_Place = tuple[_Table, str]


_Written = tuple[Any, int, Facts]
"""`(state, until_us, facts)`: what is kept of a key, and told of a hit."""
_Part = tuple[_Table, str, _Entry, Callable[[], _Written | None]]
"""`(table, key, seen, work)`: what an operation writes of one key. `seen` is the entry that was judged, None if there
was none; `work` tells what to keep in its place, and may be done again: what it changes in place, it changes once. None
says that it was changed, and has gone on since."""


class _Operation:
    """What is being done under the lock: see the module."""

    __slots__ = ("facts", "is_over", "parts")

    def __init__(self) -> None:
        self.parts: Sequence[_Part] | None = None
        """What it writes; None while it judges."""
        self.facts: tuple[Facts, ...] = ()
        self.is_over = False
        """Is it written?"""


T = TypeVar("T")
Otherwise = Callable[[Any, Any, Any], T]
"""What a key, a cost and a limit of this call are left to."""


def _nothing(key: object, cost: object, limit: object) -> None:
    """Decides on nothing."""


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
        self._tables: Interned[tuple[str, str], _Table] = Interned()
        """By name and algorithm."""
        self._round: deque[_Place] = deque()
        """A place for each entry of the tables, at least one. It may have places without an entry, too: whoever comes
        by there drops them."""
        self._lock = lock()
        self._under_way: _Operation | None = None
        """The operation that was begun last, if it has not ended."""
        self._sweep_every = 1
        """With how many new places the hand moves on: often in a small store, and not for each one in a large one."""
        self._sweep_at = 0
        """With how many places in all that is next."""
        self._evicted = 0

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self)} entries>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidUse(
            "a store in memory cannot be pickled, nor copied: what it counts is in this process alone. Give limiters "
            "that processes share a URL, such as store='redis://...', or make one in each process"
        )

    def __len__(self) -> int:
        """How many entries are held, those included whose debt is over but which the hand has not met yet."""
        return len(self._round)

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
                table.entries.clear()  # emptied, not dropped: `single` holds on to them
            self._round.clear()
            self._sweep_at = 0

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()

    # Single hits

    def single(self, limit: Limit, name: str) -> Single:
        """What decides on a single hit of `limit`, by key and cost: the same as a batch of one, without making one.

        The callable leaves to others (None) what is no plain key or cost.
        """
        return self.fast_path(limit, name, _nothing)

    def single_async(self, limit: Limit, name: str) -> Single:
        """The same: nothing is awaited."""
        return self.single(limit, name)

    def submitting(self, limit: Limit, name: str) -> None:
        """Nothing: nobody waits here."""

    def fast_path(self, limit: Limit, name: str, otherwise: Otherwise[T]) -> Callable[..., Decision | T]:
        """What decides on a single hit of `limit`, by key and cost, and leaves to `otherwise` what is no plain key or
        cost, or has a limit of its own.
        """
        if isinstance(limit, TokenBucket):
            return self._fast_path_bucket(limit, name, otherwise)
        asked, table, capacity = (limit, name), self._table(name, limit), limit.capacity
        entries = table.entries
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        algorithm: Any = limit.algorithm  # `fast_path` is not every algorithm's
        hit: FastPath = algorithm.fast_path(limit.arguments(1, 0, "")) if limit.is_plain else _nothing
        is_in_place = algorithm is sliding_log

        def decide(key: Any, cost: Any = 1, *, limit: Any = None) -> Decision | T:
            if key.__class__ is not str or cost.__class__ is not int or not 0 <= cost <= capacity or limit is not None:
                return otherwise(key, cost, limit)
            with lock:
                now_us = time_ns() // 1_000
                seen = entries.get(key, _NOTHING)
                state, until_us = seen
                found = None
                if cost and self._under_way is None:
                    found = hit(state if until_us > now_us else None, now_us, cost)
                if found is None:
                    return self._decide_single(asked[0], key, name, cost)
                is_allowed, state, until_us, facts = found
                if is_allowed:
                    entry = (state, until_us)
                    if seen is _NOTHING and key not in entries:
                        self._add(table, check_key(key), now_us)
                        if key not in entries and self._under_way is None:
                            entries[key] = seen = entry
                    if key in entries and entries[key] is seen:
                        entries[key] = entry
                    elif is_in_place and key in entries and entries[key][0] is state:
                        if entries[key][1] < until_us:
                            entries[key] = entry
                    else:  # somebody came in, and what we have read of it is not what there is
                        return self._decide_single(asked[0], key, name, cost)
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = facts
            return decision

        return decide

    def _fast_path_bucket(self, bucket: TokenBucket, name: str, otherwise: Otherwise[T]) -> Callable[..., Decision | T]:
        """As `fast_path`. It is token_bucket.judge with .spend or .keep in one, for keys that are known and to which
        nothing was given back: that takes a fifth of the time of the general way (`make bench` shows it). Hence what
        looks odd here.
        """
        table = self._table(name, bucket)
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        asked, capacity = (bucket, name), bucket.capacity
        token, tolerance, rate = bucket.arguments(1, 0, "")[:3]
        entries = self._count_in(table, rate)

        def decide(key: Any, cost: Any = 1, *, limit: Any = None) -> Decision | T:
            if key.__class__ is not str or cost.__class__ is not int or limit is not None:
                return otherwise(key, cost, limit)
            if cost == 1:
                increment = token
            elif 0 <= cost <= capacity:
                increment = cost * token
            else:
                return otherwise(key, cost, limit)
            with lock:
                now_us = time_ns() // 1_000
                now = now_us if rate == 1 else now_us * rate
                if key not in entries:
                    if cost == 0:
                        return self._decide_single(bucket, key, name, cost)
                    self._add(table, check_key(key), now_us)
                    if key not in entries:
                        entries[key] = now  # which says as little as no entry
                # From here on, there is no call until it is written, and nobody comes in.
                if self._under_way is not None or (tat := entries[key]).__class__ is not int:
                    return self._decide_single(bucket, key, name, cost)
                if tat < now:  # noqa: PLR1730  # `max` takes longer than all the sums here
                    tat = now
                new_tat = tat + increment
                full = now + tolerance
                if is_allowed := new_tat <= full:
                    entries[key] = tat = new_tat
                elif tat > full:  # more than full: the clock has stepped back
                    return self._decide_single(bucket, key, name, cost)
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = tat
            return decision

        return decide

    def _decide_single(self, limit: Limit, key: str, name: str, cost: int) -> Decision:
        return self._decide([Group((Hit(limit, check_key(key), name, cost),))])[0]

    # Tables

    def _table(self, name: str, limit: Limit) -> _Table:
        owner = (name, limit.code)
        return self._tables.get(owner) or self._tables.intern(owner, _Table())

    def _count_in(self, table: _Table, rate: int) -> dict[str, _Entry]:
        """Count a table's plain entries in these parts from now on. Returns the entries; who holds those from before
        finds nothing there.
        """
        with self._lock:
            while table.rate != rate:
                operation = self._begin()
                fresh = _Table()
                fresh.rate = rate
                for key, entry in list(table.entries.items()):
                    fresh.entries[key] = fresh.entry(*table.find(entry))
                before = table.entries
                if self._under_way is operation:  # nobody has come in
                    table.entries, table.rate = fresh.entries, rate
                    before.clear()
                self._end(operation)
            return table.entries

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
                allowed, parts, facts = self._judge(group, now_us)
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

    def _judge(self, group: Group, now_us: int) -> tuple[bool, Sequence[_Part], tuple[Facts, ...]]:
        """What comes of a group: whether it is allowed, what is to be written, and the facts where writing tells
        none.
        """
        hits, max_wait_us, action, _ = group
        if action not in ("spend", "peek"):
            return self._judge_other(group, hits[0], now_us)
        allowed, judged = True, []
        for hit in hits:
            limit, key, name, cost, holder, *_ = hit
            table = self._table(name, limit)
            seen = table.entries.get(key)
            state, until_us = table.find(seen)
            algorithm = limit.algorithm
            fits, found = algorithm.judge(
                state if until_us > now_us else None, now_us, limit.arguments(cost, now_us, holder), max_wait_us
            )
            allowed = allowed and fits
            judged.append((table, key, seen, algorithm, found))
        if allowed and action == "spend":
            return True, [(table, key, seen, partial(one.spend, found)) for table, key, seen, one, found in judged], ()
        facts = tuple([algorithm.keep(found) for _, _, _, algorithm, found in judged])
        parts: list[_Part] = []
        if action == "spend":
            for table, key, seen, algorithm, found in judged:
                repaired = algorithm.repaired(found)
                if repaired is not None:
                    parts.append((table, key, seen, _writing(*repaired, ())))
        return allowed, parts, facts

    def _judge_other(self, group: Group, hit: Hit, now_us: int) -> tuple[bool, Sequence[_Part], tuple[Facts, ...]]:
        limit, key, name, cost, holder, receipt, *_ = hit
        table = self._table(name, limit)
        seen = table.entries.get(key)
        state, until_us = table.find(seen)
        if until_us <= now_us:
            state = None
        arguments = limit.arguments(cost, now_us, holder)
        algorithm: Any = limit.algorithm  # take and renew are not every algorithm's
        allowed, marks = True, []
        if group.once is not None:
            mark = f"{key}\0{group.once.mark}"  # no key holds NUL
            known = table.entries.get(mark)
            if group.once.until_us <= now_us or table.find(known)[1] > now_us:
                return True, (), (algorithm.keep(algorithm.judge(state, now_us, arguments, 0)[1]),)
            marks = [(table, mark, known, _writing(_MARKED, group.once.until_us, ()))]
        if group.action == "give_back":
            written = algorithm.give_back(state, now_us, arguments, receipt)
        elif group.action == "take":
            written = algorithm.take(state, now_us, arguments)
        elif group.action == "renew" and isinstance(limit, Concurrency):
            allowed, *written = algorithm.renew(state, now_us, arguments)
        else:
            written = None, 0, algorithm.keep(algorithm.judge(None, now_us, arguments, 0)[1])
        return allowed, [(table, key, seen, _writing(*written)), *marks], ()

    def _carry_out(self, operation: _Operation) -> None:
        """Write what an operation has said that it writes. Whoever comes in meanwhile does all of it before he goes
        on.
        """
        facts = []
        for table, key, seen, work in operation.parts or ():
            written = work()
            if written is None:  # whoever came in has done all
                return
            state, until_us, told = written
            facts += [told] if told else []
            entries = table.entries
            if key not in entries:
                if state is None:
                    continue
                self._add(table, key, self._clock())
            log = seen[0] if seen.__class__ is tuple else None
            if log.__class__ is sliding_log.State and log is not state:
                # Somebody may be about to add to this log, who has read it before he was interrupted.
                fresh = sliding_log.State() if state is None else state
                if operation.is_over:
                    return
                log.entries = fresh.entries
                state = log
            entry = table.entry(state, until_us)
            if operation.is_over:
                return
            if key not in entries or entries[key] is seen:  # or else, it has been written
                entries[key] = entry  # without a state it is dead, and the hand will drop it
        told_all = tuple(facts)
        if not operation.is_over:
            operation.facts = told_all
            operation.is_over = True

    # Room

    def _add(self, table: _Table, key: str, now_us: int) -> None:
        """Make a place for a new entry, and room where it is time to."""
        if len(self._round) >= self._sweep_at:
            self._make_room(now_us)
        self._round.append((table, key))

    def _make_room(self, now_us: int) -> None:
        """Move the hand on: by two places for each that has come since the last time."""
        places, most = self._round, self._max_entries
        if len(places) < most:
            self._pass(2 * self._sweep_every, now_us)
        else:
            living = self._pass(_CANDIDATES, now_us)
            if len(places) >= most and living:
                ends_us = [table.find(table.entries.get(key))[1] for table, key in living]
                at = ends_us.index(min(ends_us)) - len(living)
                table, key = place = living[at]
                table.entries.pop(key, None)
                self._evicted += 1
                with suppress(IndexError):
                    if places[at] is place:  # or else, whoever comes by will find that it has no entry
                        del places[at]
        self._sweep_every = min(_SWEEP_EVERY, len(places) // 8 + 1)
        self._sweep_at = min(len(places) + self._sweep_every, most)

    def _pass(self, steps: int, now_us: int) -> list[_Place]:
        """Look at the next places of the round. Drops the dead and returns the living, which are then its last.

        Whatever comes in, an entry never is without a place.
        """
        living, places = [], self._round
        for _ in range(min(steps, len(places))):
            if not places:
                break
            place = places[0]
            table, key = place
            entries = table.entries
            is_alive = False
            if key in entries:
                entry = entries[key]
                is_alive = entry > now_us * table.rate if entry.__class__ is int else entry[1] > now_us
                if not is_alive:
                    del entries[key]
            if is_alive:
                places.append(place)
                living.append(place)
            if places and places[0] is place:
                places.popleft()
        return living


def _writing(state: Any, until_us: int, facts: Facts) -> Callable[[], _Written]:
    return lambda: (state, until_us, facts)

"""The memory store: one process, any number of threads and tasks.

State lives in a dict under one lock, which is all the atomicity there is: it does not lean on the GIL. A hand goes
round the entries, by two for each new one, and drops those whose debt is over, so that a flood of keys pays for its
own tidying and no thread or timer is needed. The number of entries is bounded: when it is reached, and no dead
entry is near the hand, the one of eight whose debt ends soonest is forgotten, which is the smallest gift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from headgate.algorithms import Facts, Straight
from headgate.clock import Clock, in_nanoseconds, system_clock
from headgate.decision import BucketDecision, Decision, Lone, ToldDecision
from headgate.errors import InvalidUse
from headgate.hits import Group, Hit
from headgate.keys import check_key
from headgate.limits import Concurrency, Limit, TokenBucket
from headgate.locks import quick_lock

_HAND_STEPS: Final = 2
_CANDIDATES: Final = 8

_Entry = Any
"""`(state, until_us)`: a state, and the instant by which it says nothing any more, in microseconds since the epoch.
Or, for a token bucket to which nothing was given back, just its theoretical arrival time, in parts of the table's
`rate`."""


class _Table:
    """The entries of one limit (one name and algorithm), by key."""

    __slots__ = ("entries", "rate")

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.rate = 0
        """Of token buckets: the parts per microsecond in which plain entries are counted. 0: there are none."""

    def find(self, key: str) -> tuple[Any, int]:
        """A key's state, and until when it says something."""
        entry = self.entries.get(key, _NOTHING)
        if type(entry) is int:
            return (entry, self.rate, (), 0, 0), -(-entry // self.rate)
        found: tuple[Any, int] = entry
        return found

    def put(self, key: str, state: Any, until_us: int) -> None:
        """Keep a state."""
        if self.rate and state is not None and state[1] == self.rate and not state[2] and state[4] == 0:
            self.entries[key] = state[0]
        else:
            self.entries[key] = (state, until_us)

    def use(self, rate: int) -> dict[str, _Entry]:
        """Count in these parts from now on. Returns the entries; who holds those from before finds nothing there."""
        if rate != self.rate:
            fresh = _Table()
            fresh.rate = rate
            for key in self.entries:
                fresh.put(key, *self.find(key))
            before, self.entries, self.rate = self.entries, fresh.entries, rate
            before.clear()
        return self.entries


_NOTHING: Final = (None, 0)


T = TypeVar("T")
Otherwise = Callable[[Any, Any, Any], T]
"""What a key, a cost and a limit of this call are left to."""


def _nothing(key: object, cost: object, limit: object) -> None:
    """Decides on nothing."""


class MemoryStore:
    """State in this process's memory.

    :param clock: what tells the time; the system's clock by default, a `ManualClock` in tests.
    :param max_entries: how many (key, limit) pairs are remembered at most.
    """

    timeout = float("inf")

    def __init__(self, clock: Clock = system_clock, *, max_entries: int = 1_000_000) -> None:
        if max_entries < 1:
            raise InvalidUse(f"max_entries must be at least 1, not {max_entries}")
        self._clock = clock
        self._max_entries = max_entries
        self._tables: dict[tuple[str, str], _Table] = {}
        self._round: deque[tuple[_Table, str]] = deque()  # each entry of the tables, once
        self._lock = quick_lock()
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
            now_us = self._clock()
            return [self._group(group, now_us) for group in groups]

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch; nothing is awaited."""
        return self.decide(groups)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            for table in self._tables.values():  # emptied, not dropped: `lone` holds on to them
                table.entries.clear()
            self._round.clear()

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()

    def lone(self, limit: Limit, name: str) -> Lone:
        """What decides on a single hit of `limit`, by key and cost: the same as a batch of one, without making one.

        The callable leaves to others (None) what is no plain key or cost.
        """
        return self.straight(limit, name, _nothing)

    def straight(self, limit: Limit, name: str, otherwise: Otherwise[T]) -> Callable[..., Decision | T]:
        """What decides on a single hit of `limit`, by key and cost, and leaves to `otherwise` what is no plain key or
        cost, or has a limit of its own.
        """
        if isinstance(limit, TokenBucket):
            return self._straight_bucket(limit, name, otherwise)
        asked, entries, capacity = (limit, name), self._table(name, limit).entries, limit.capacity
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        algorithm: Any = limit.algorithm  # `straight` is not every algorithm's
        hit: Straight = algorithm.straight(limit.arguments(1, 0, "")) if limit.is_plain else _nothing

        def decide(key: Any, cost: Any = 1, *, limit: Any = None) -> Decision | T:
            if key.__class__ is not str or cost.__class__ is not int or not 0 <= cost <= capacity or limit is not None:
                return otherwise(key, cost, limit)
            with lock:
                now_us = time_ns() // 1_000
                state, until_us = entries.get(key, _NOTHING)
                found = hit(state, now_us, cost) if until_us > now_us and cost else None
                if found is None:
                    return self._group(Group((Hit(asked[0], check_key(key), name, cost),)), now_us)
                is_allowed, state, until_us, facts = found
                if is_allowed:
                    entries[key] = (state, until_us)
            decision: ToldDecision = ToldDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = facts
            return decision

        return decide

    def _straight_bucket(self, bucket: TokenBucket, name: str, otherwise: Otherwise[T]) -> Callable[..., Decision | T]:
        """As `straight`. It is token_bucket.judge with .spend or .keep in one, for keys that are known and to which
        nothing was given back: that takes a fifth of the time of the general way (`make bench` shows it). Hence what
        looks odd here.
        """
        table = self._table(name, bucket)
        lock, time_ns = self._lock, in_nanoseconds(self._clock)
        asked, capacity = (bucket, name), bucket.capacity
        token, tolerance, rate = bucket.arguments(1, 0, "")[:3]
        with self._lock:
            entries = table.use(rate)

        def decide(key: Any, cost: Any = 1, *, limit: Any = None) -> Decision | T:
            if key.__class__ is not str or cost.__class__ is not int or not 0 <= cost <= capacity or limit is not None:
                return otherwise(key, cost, limit)
            with lock:
                now_us = time_ns() // 1_000
                tat = entries.get(key)
                if tat.__class__ is not int:
                    return self._group(Group((Hit(bucket, check_key(key), name, cost),)), now_us)
                now = now_us if rate == 1 else now_us * rate
                if tat < now:  # noqa: PLR1730  # `max` takes longer than all the sums here
                    tat = now
                new_tat = tat + (token if cost == 1 else cost * token)
                if is_allowed := new_tat - now <= tolerance:
                    entries[key] = tat = new_tat
            decision: BucketDecision = BucketDecision()
            decision.now_us = now_us
            decision.allowed = is_allowed
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = tat
            return decision

        return decide

    def lone_async(self, limit: Limit, name: str) -> Lone:
        """The same: nothing is awaited."""
        return self.lone(limit, name)

    def _table(self, name: str, limit: Limit) -> _Table:
        return self._tables.setdefault((name, limit.code), _Table())

    def _group(self, group: Group, now_us: int) -> Decision:
        hits, max_wait_us, action = group
        if action not in ("spend", "peek"):
            return self._other(group, hits[0], now_us)
        allowed, judged = True, []
        for hit in hits:
            limit, key, name, cost, holder, _, _ = hit
            table = self._table(name, limit)
            state, expires_at = table.find(key)
            fits, found = limit.algorithm.judge(
                state if expires_at > now_us else None, now_us, limit.arguments(cost, now_us, holder), max_wait_us
            )
            allowed = allowed and fits
            judged.append((table, key, limit.algorithm, found))
        if not allowed or action == "peek":
            return Decision(group, now_us, allowed, tuple([algorithm.keep(found) for _, _, algorithm, found in judged]))
        facts = []
        for table, key, algorithm, found in judged:
            state, expires_at, told = algorithm.spend(found)
            self._write(table, key, state, expires_at, now_us)
            facts.append(told)
        return Decision(group, now_us, True, tuple(facts))

    def _other(self, group: Group, hit: Hit, now_us: int) -> Decision:
        limit, key, name, cost, holder, receipt, _ = hit
        table = self._table(name, limit)
        state, expires_at = table.find(key)
        if expires_at <= now_us:
            state = None
        arguments = limit.arguments(cost, now_us, holder)
        algorithm: Any = limit.algorithm  # take and renew are not every algorithm's
        allowed = True
        facts: Facts = ()
        if group.action == "give_back":
            state, expires_at, facts = algorithm.give_back(state, now_us, arguments, receipt)
        elif group.action == "take":
            state, expires_at, facts = algorithm.take(state, now_us, arguments)
        elif group.action == "renew" and isinstance(limit, Concurrency):
            allowed, state, expires_at, facts = algorithm.renew(state, now_us, arguments)
        else:
            self._write(table, key, None, 0, now_us)
            facts = algorithm.keep(algorithm.judge(None, now_us, arguments, 0)[1])
            return Decision(group, now_us, True, (facts,))
        self._write(table, key, state, expires_at, now_us)
        return Decision(group, now_us, allowed, (facts,))

    def _write(self, table: _Table, key: str, state: Any, expires_at: int, now_us: int) -> None:
        if key not in table.entries:
            if state is None:
                return
            self._make_room(now_us)
            self._round.append((table, key))
        table.put(key, state, expires_at)  # without a state it is dead, and the hand will drop it

    def _make_room(self, now_us: int) -> None:
        """Move the hand on.

        A signal's exception may end this after any call, so each place moves by one. What it leaves behind at worst is
        a place without an entry, or a second place of one: both are dropped when the hand comes by.
        """
        self._pass(_HAND_STEPS, now_us)
        if len(self._round) < self._max_entries:
            return
        living = self._pass(_CANDIDATES, now_us)
        if len(self._round) >= self._max_entries:
            ends_us = [table.find(key)[1] for table, key in living]
            at = ends_us.index(min(ends_us))
            table, key = living[at]
            table.entries.pop(key, None)
            del self._round[at - len(living)]
            self._evicted += 1

    def _pass(self, steps: int, now_us: int) -> list[tuple[_Table, str]]:
        """Look at the next entries of the round. Drops the dead and returns the living, whose place is now its end."""
        living = []
        for _ in range(min(steps, len(self._round))):
            table, key = place = self._round[0]
            if table.find(key)[1] > now_us:
                self._round.rotate(-1)
                living.append(place)
            else:
                table.entries.pop(key, None)
                self._round.popleft()
        return living

"""The memory store: one process, any number of threads and tasks.

State lives in a dict under one lock, which is all the atomicity there is: it does not lean on the GIL. A hand goes round the entries, by two
for each new one, and drops those whose debt is over, so that a flood of keys pays for its own tidying and no thread or timer is needed. The
number of entries is bounded: when it is reached, and no dead entry is near the hand, the one of eight whose debt ends soonest is forgotten, which
is the smallest gift.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from headgate.algorithms import Facts
from headgate.clock import Clock, system_clock
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.limits import Concurrency

_HAND_STEPS: Final = 2
_CANDIDATES: Final = 8

_Entry = tuple[Any, int]
"""A state, and the instant at which it says nothing any more, in microseconds since the epoch."""
_Address = tuple[str, str, str]
"""Key, name and algorithm: no two different pairs ever meet."""


class MemoryStore:
    """State in this process's memory.

    :param clock: what tells the time; the system's clock by default, a `ManualClock` in tests.
    :param max_entries: how many (key, limit) pairs are remembered at most.
    """

    timeout = float("inf")

    def __init__(self, clock: Clock = system_clock, *, max_entries: int = 1_000_000) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {max_entries}")
        self._clock = clock
        self._max_entries = max_entries
        self._entries: dict[_Address, _Entry] = {}
        self._round: deque[_Address] = deque()  # each address of the entries, once
        self._lock = threading.Lock()
        self._evicted = 0

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} entries>"

    def __len__(self) -> int:
        """How many entries are held, those included whose debt is over but which the hand has not met yet."""
        return len(self._entries)

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
            self._entries.clear()
            self._round.clear()

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()

    def _group(self, group: Group, now_us: int) -> Decision:
        hits, max_wait_us, action = group
        if action == "spend" or action == "peek":
            allowed, judged = True, []
            for hit in hits:
                limit, key, name, cost, holder, _, _ = hit
                address = (key, name, limit.code)
                entry = self._entries.get(address)
                fits, found = limit.algorithm.judge(
                    None if entry is None or entry[1] <= now_us else entry[0],
                    now_us,
                    limit.arguments(cost, now_us, holder),
                    max_wait_us,
                )
                allowed = allowed and fits
                judged.append((address, limit.algorithm, found))
            if not allowed or action == "peek":
                return Decision(group, now_us, allowed, tuple([algorithm.keep(found) for _, algorithm, found in judged]))
            facts = []
            for address, algorithm, found in judged:
                state, expires_at, told = algorithm.spend(found)
                self._write(address, state, expires_at, now_us)
                facts.append(told)
            return Decision(group, now_us, True, tuple(facts))
        return self._other(group, hits[0], now_us)

    def _other(self, group: Group, hit: Hit, now_us: int) -> Decision:
        limit, key, name, cost, holder, receipt, _ = hit
        address = (key, name, limit.code)
        entry = self._entries.get(address)
        state = None if entry is None or entry[1] <= now_us else entry[0]
        arguments = limit.arguments(cost, now_us, holder)
        algorithm: Any = limit.algorithm  # take and renew are not every algorithm's
        allowed = True
        expires_at = 0
        facts: Facts = ()
        if group.action == "give_back":
            state, expires_at, facts = algorithm.give_back(state, now_us, arguments, receipt)
        elif group.action == "take":
            state, expires_at, facts = algorithm.take(state, now_us, arguments)
        elif group.action == "renew" and isinstance(limit, Concurrency):
            allowed, state, expires_at, facts = algorithm.renew(state, now_us, arguments)
        else:
            self._write(address, None, 0, now_us)
            facts = algorithm.keep(algorithm.judge(None, now_us, arguments, 0)[1])
            return Decision(group, now_us, True, (facts,))
        self._write(address, state, expires_at, now_us)
        return Decision(group, now_us, allowed, (facts,))

    def _write(self, address: _Address, state: Any, expires_at: int, now_us: int) -> None:
        if address not in self._entries:
            if state is None:
                return
            self._make_room(now_us)
            self._round.append(address)
        self._entries[address] = (state, expires_at)  # without a state it is dead, and the hand will drop it

    def _make_room(self, now_us: int) -> None:
        """Move the hand on."""
        entries = self._entries
        self._pass(_HAND_STEPS, now_us)
        if len(entries) < self._max_entries:
            return
        living = self._pass(_CANDIDATES, now_us)
        if len(entries) >= self._max_entries:
            soonest = min(living, key=lambda address: entries[address][1])
            self._round.remove(soonest)
            del entries[soonest]
            self._evicted += 1

    def _pass(self, steps: int, now_us: int) -> list[_Address]:
        """Drop the dead among the next entries. Returns the living, which go to the end of the round."""
        living = []
        for _ in range(min(steps, len(self._round))):
            address = self._round.popleft()
            if self._entries[address][1] > now_us:
                living.append(address)
            else:
                del self._entries[address]
        self._round.extend(living)
        return living

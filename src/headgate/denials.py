"""The memory of denials: a denied hit says when it can next succeed, and until then nobody has to be asked.

It is exact: what is denied here, the store would have denied. A denial counts from the moment at which the request
was *sent*, so that it ends here no later than at the store, and each hit of a group is remembered by itself. It cannot
know what others give back or reset meanwhile, nor that others raised a limit; so it ends after a second at the
latest. What is given back or reset through this store is forgotten at once. Slots are never remembered: nobody knows
when one is released. Nor is the denial of a limit that a penalty watches, which would not be counted: of a group with
penalties, what is remembered is that a key is blocked.

The idea is envoyproxy/ratelimit's local cache of keys that are over their limit, which holds until the end of a
window; here it is of the microsecond, and for every algorithm.

This module must not know how a store is asked.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from headgate.clock import Clock, in_nanoseconds, monotonic_us
from headgate.decision import Decision, Remembered, RememberedDenial, Single
from headgate.hits import Group, Hit
from headgate.limits import Concurrency, Limit, Penalty, SlidingLog
from headgate.runtime.interned import Interned

MAX_DENIALS: Final = 50_000
"""The number of denials of one limit that are remembered before the older half of them is forgotten."""
MAX_KEPT: Final = 1_024
"""For how many limits that no limiter has, denials are kept."""


def penalties_of(group: Group) -> list[Hit]:
    """The hits of a group that count the denials of others."""
    return [hit for hit in group.hits if hit.limit.__class__ is Penalty]


class _Table:
    """The denials of one limit, by key: the latest, and those before them."""

    __slots__ = ("__weakref__", "kept_until_us", "latest", "older")

    def __init__(self) -> None:
        self.latest: dict[str, Remembered] = {}
        self.older: dict[str, Remembered] = {}
        self.kept_until_us = 0


class DenialMemory:
    """The denials of late of one store. Safe to share between threads and tasks.

    Limits come and go, as tenants do: what is known of one goes with the limiters that have it, or, where none has (a
    limiter of several limits, say), when its denials are over.

    :param cap_us: how long a denial is remembered at most, in microseconds.
    :param clock: tells the time in microseconds; it must not jump.
    """

    def __init__(self, cap_us: int, clock: Clock = monotonic_us) -> None:
        self._cap_us = cap_us
        self._tables: Interned[tuple[str, str], _Table] = Interned()
        """By name and algorithm."""
        self._kept: deque[tuple[int, _Table]] = deque(maxlen=MAX_KEPT)
        """Those of which a denial was learnt lately, whoever else has them, each with the time until which it stays."""
        self.clock = clock
        self._numbers = itertools.count(1)
        self.forgettings = 0
        """The number of the last time that something was forgotten. The answer to what was sent before teaches
        nothing."""

    @property
    def clock(self) -> Clock:
        """Tells the time in microseconds."""
        return self._clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._clock, self._time_ns = clock, in_nanoseconds(clock)

    def single(self, limit: Limit, name: str) -> Single:
        """Make what recalls the denial of a single hit of `limit`, by key and cost. It leaves to others (None) what is
        no plain key or cost.
        """
        asked, table = (limit, name), self._table(name, limit)

        def recall(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int:
                return None
            entry = table.latest.get(key) or table.older.get(key)
            if entry is None:
                return None
            at_ns = self._time_ns()
            until_ns, known, least, most, _, _, _ = entry
            if at_ns >= until_ns or not least <= cost <= most or (known is not limit and known != limit):
                return None
            decision: RememberedDenial = RememberedDenial()
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = entry
            decision.at_ns = at_ns
            return decision

        return recall

    def recall(self, group: Group) -> Decision | None:
        """The denial of a group of which a hit is known to be denied: of several, that of the one which is denied for
        longest. None if there is none.
        """
        if group.action != "spend" or group.once is not None:  # one that was charged before is not denied now
            return None
        hits: Sequence[Hit] = penalties_of(group)
        if not hits:
            if group.max_wait_us > 0:
                return None
            hits = group.hits
        at_ns = self._time_ns()
        found, longest_us = None, -1
        for hit in hits:
            table = self._tables.get((hit.name, hit.limit.code))
            if table is None:
                continue
            entry = table.latest.get(hit.key) or table.older.get(hit.key)
            if entry is None:
                continue
            until_ns, limit, least, most, offset_us, denied, denied_us = entry
            if at_ns >= until_ns or not least <= hit.needed <= most or hit.limit != limit:
                continue
            now_us = at_ns // 1_000 + offset_us
            facts = hit.limit.age_denial(denied, now_us - denied_us, least, hit.needed)
            wait_us = hit.limit.retry_after_us(facts, now_us, hit.needed)
            if wait_us > longest_us:
                longest_us = wait_us
                found = Decision(Group((hit,)), now_us, False, (facts,), "memory_of_denial")
        return found

    def learn(self, decision: Decision, sent_us: int, forgettings: int) -> None:
        """Remember what a decision denied. It was asked for at `sent_us`, after so many `forgettings`."""
        group = decision.group
        if decision.allowed or group.action != "spend" or forgettings != self.forgettings:
            return
        has_penalty = len(group.hits) > 1 and bool(penalties_of(group))
        for hit, facts in zip(group.hits, decision.facts, strict=False):
            if has_penalty and not isinstance(hit.limit, Penalty):
                continue
            wait_us = hit.limit.retry_after_us(facts, decision.now_us, hit.needed)
            if wait_us > 0 and not isinstance(hit.limit, Concurrency):
                self._remember(hit, facts, decision.now_us, sent_us + min(wait_us, self._cap_us))
                if forgettings != self.forgettings:  # another thread's, just now: it may have come by before us
                    self._forget(hit)

    def _remember(self, hit: Hit, facts: tuple[int, ...], now_us: int, until_us: int) -> None:
        table = self._table(hit.name, hit.limit)
        if len(table.latest) >= MAX_DENIALS:
            table.older, table.latest = table.latest, {}
        # When a larger one fits a log, the log was not asked.
        most = hit.needed if isinstance(hit.limit, SlidingLog) else hit.limit.capacity
        learnt_us = self.clock()
        least = 0 if isinstance(hit.limit, Penalty) else hit.needed
        table.latest[hit.key] = (until_us * 1_000, hit.limit, least, most, now_us - learnt_us, facts, now_us)
        if until_us > table.kept_until_us:
            self._keep(table, learnt_us)

    def _keep(self, table: _Table, at_us: int) -> None:
        """Let a table live for as long as what is learnt of it now, and let go of some others."""
        table.kept_until_us = at_us + 2 * self._cap_us  # twice, so as to be asked for it once in a while
        kept = self._kept
        kept.append((table.kept_until_us, table))
        try:
            for _ in range(2):
                if kept[0][0] <= at_us:
                    kept.popleft()
        except IndexError:  # somebody else did
            pass

    def forget(self, groups: Sequence[Group]) -> None:
        """Something was given back or reset: what was denied may now pass."""
        for group in groups:
            if group.action in ("give_back", "forget"):
                self.forgettings = next(self._numbers)
                for hit in group.hits:
                    self._forget(hit)

    def _forget(self, hit: Hit) -> None:
        table = self._tables.get((hit.name, hit.limit.code))
        if table is not None:
            table.latest.pop(hit.key, None)
            table.older.pop(hit.key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.forgettings = next(self._numbers)
        for table in self._tables.all():
            table.latest, table.older, table.kept_until_us = {}, {}, 0
        self._kept.clear()

    def _table(self, name: str, limit: Limit) -> _Table:
        at = (name, limit.code)
        return self._tables.get(at) or self._tables.intern(at, _Table())

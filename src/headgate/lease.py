"""Leases: tokens drawn from the store ahead of need, and spent here without asking it.

What is drawn is spent in the store at once. When it is used later, it must still be good, or more could pass in some
interval than the limit allows:

- **Token bucket.** Each token occupies a stretch of the bucket's future, in which its debt is earned back (the
  theoretical arrival times of GCRA; see algorithms/token_bucket.py). A lease is such a stretch, from `front` to `end`.
  A token may be used until its own stretch begins: then the tokens used within any interval `[a, b]` have disjoint
  stretches within `[a, b + burst / rate]`, which are no more than `burst + rate * (b - a)`. So a lease melts from its
  front, just as fast as the bucket fills, and what is lost of it is lost to nobody else.
- **Fixed and sliding windows.** A token is good for the window in which it was drawn.

The store's time is taken to be the latest that it can be: when it decided, and what has passed here since the question
was *sent*.

How many are drawn follows the demand: twice as many each time that they did not last, half as many when some were left.
A signal's handler may spend, draw or give back in the middle of a call of the same thread. So what is read of a lease
and what is written of it stand together, without a call in between: handlers come in after calls only.

This module must not know how a store is asked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from headgate.algorithms import Facts
from headgate.batching import MAX_GROUPS
from headgate.clock import Clock, in_nanoseconds, monotonic_us
from headgate.decision import Decision, LeasedDecision, Single
from headgate.drive import Plan
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, Hit
from headgate.limits import FixedWindow, Limit, SlidingWindow, TokenBucket
from headgate.plans.commands import Ask, Command, Pause
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.locks import lock

logger = logging.getLogger("headgate")

MAX_KEYS: Final = 10_000
"""For how many keys of a limiter the demand is remembered."""


@dataclass(frozen=True)
class Lease:
    """How a limiter may draw tokens ahead of need."""

    max_tokens: int | None = None
    """The most that is drawn at once; by default a tenth of the limit's capacity."""
    life: float = 1.0
    """After so many seconds, what was not used goes back to the store, as far as it still can."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 1):
            raise InvalidUse(f"max_tokens is an integer of at least 1, or None, not {self.max_tokens!r}")
        if type(self.life) not in (int, float) or not 0.01 <= self.life <= 60:
            raise InvalidUse(f"the life of a lease is a number of seconds from 0.01 to 60, not {self.life!r}")


class LeaseReport(NamedTuple):
    """What has become of the tokens that one limiter drew, since it was made."""

    drawn: int
    spent: int
    returned: int
    held: int
    """Those that are still here, good or not."""

    @property
    def stranded(self) -> int:
        """Those that nobody used: they went to waste, though a token bucket has earned them again."""
        return self.drawn - self.spent - self.returned - self.held

    @property
    def stranded_share(self) -> float:
        """`stranded` as a share of what was drawn, from 0 to 1."""
        return self.stranded / self.drawn if self.drawn else 0.0


class Draw(NamedTuple):
    """A question for tokens ahead of need, to go with a caller's own."""

    group: Group
    sent_us: int


class _Held:
    """Tokens that are held of one key."""

    __slots__ = ("drawn", "idle_at_us", "offset_us", "receipt")

    def __init__(self, drawn: int, receipt: Any, offset_us: int, idle_at_us: int) -> None:
        self.drawn = drawn
        self.receipt = receipt
        self.offset_us = offset_us
        """What makes the store's time, at the latest, of ours."""
        self.idle_at_us = idle_at_us
        """When what is left goes back, by our clock."""


class _Stretch(_Held):
    """Those of a token bucket, as a stretch of its future, in parts of a microsecond."""

    __slots__ = ("_begin", "_melted", "_rate", "_token", "end", "front", "melts_at_ns")

    def __init__(self, limit: Limit, decision: Decision, offset_us: int, idle_at_us: int) -> None:
        _, _, self.end, credited = decision.facts[0]
        super().__init__(decision.cost, (self.end, credited, True), offset_us, idle_at_us)
        self._token, _, self._rate = limit.arguments(1, 0, "")
        self.front: int = self.end - decision.cost * self._token
        self._begin, self._melted = self.front, 0
        self.melts_at_ns = 0
        """Before this instant by our clock, nothing of it has melted: a spend need not look. It may be later."""

    def melt(self, at_ns: int) -> None:
        """Lose what lies before now."""
        now = (at_ns // 1_000 + self.offset_us) * self._rate
        if now > self.front:
            self._melted += now - self.front
            self.front = now
        self.melts_at_ns = (self.front // self._rate - self.offset_us + 1) * 1_000

    @property
    def spent(self) -> int:
        """How many were used."""
        spent: int = (self.front - self._begin - self._melted) // self._token
        return spent

    def add(self, before: _Stretch | _Share, left: int) -> None:
        """Keep what was left of an earlier lease: of a stretch, that is too little to keep."""

    def close(self) -> None:
        """Hold nothing more: somebody may be about to spend who found it just before."""
        self.end = self.front

    def unused(self, at_us: int) -> int:
        """How many tokens are still good."""
        unused: int = max(0, self.end - max(self.front, (at_us + self.offset_us) * self._rate)) // self._token
        return unused


class _Share(_Held):
    """Those of a window, until it ends."""

    __slots__ = ("ends_at_ns", "facts", "spent")

    def __init__(self, limit: Limit, decision: Decision, offset_us: int, idle_at_us: int) -> None:
        self.facts: Facts = decision.facts[0]
        start_us = self.facts[0]
        super().__init__(decision.cost, start_us, offset_us, idle_at_us)
        self.spent = 0
        end_us = limit.window(start_us)[1] if isinstance(limit, FixedWindow) else start_us + limit.period_us
        self.ends_at_ns = (end_us - offset_us) * 1_000
        """When the window ends, by our clock."""

    def add(self, before: _Stretch | _Share, left: int) -> None:
        """Keep what was left of an earlier lease, in the same window."""
        if before.receipt == self.receipt:
            self.drawn += left

    def close(self) -> None:
        """Hold nothing more: somebody may be about to spend who found it just before."""
        self.drawn = self.spent

    def unused(self, at_us: int) -> int:
        """How many tokens are still good."""
        return self.drawn - self.spent if at_us * 1_000 < self.ends_at_ns else 0


class Leases:
    """The leases of one limiter, by key. Safe to share between threads and tasks; a forked process begins with none.

    :raises InvalidUse: if the limit cannot be leased.
    """

    def __init__(self, limit: Limit, name: str, lease: Lease, clock: Clock = monotonic_us) -> None:
        if not isinstance(limit, (TokenBucket, FixedWindow, SlidingWindow)):
            raise InvalidUse(f"{str(limit)!r} cannot be leased: only token buckets, fixed and sliding windows can")
        self._limit = limit
        self._name = name
        self._clock = clock
        self._most = lease.max_tokens or max(1, limit.capacity // 10)
        self._life_us = int(lease.life * 1_000_000)
        self._kind: type[_Stretch | _Share] = _Stretch if isinstance(limit, TokenBucket) else _Share
        self.forget()
        begin_afresh_in_child(self, Leases.forget)

    def forget(self) -> None:
        """Hold nothing, and give nothing back."""
        self._lock = lock()
        self._held: dict[str, _Stretch | _Share] = {}
        self._drawing: dict[str, Draw] = {}
        """By key, what is on its way."""
        self._demand: dict[str, tuple[int, int]] = {}
        """By key: how many to draw next, and when it was asked for last."""
        self._drawn = self._spent = self._returned = 0

    @property
    def report(self) -> LeaseReport:
        """What has become of the tokens that were drawn."""
        with self._lock:
            at_us = self._clock()
            leases = list(self._held.values())
            held = sum(one.unused(at_us) for one in leases)
            spent = self._spent + sum(one.spent for one in leases)
            return LeaseReport(self._drawn, spent, self._returned, held)

    def single(self, otherwise: Single) -> Single:
        """What spends a held token, by key and cost, and leaves all else to `otherwise`."""
        asked, time_ns = (self._limit, self._name), in_nanoseconds(self._clock)
        token = self._limit.arguments(1, 0, "")[0]
        is_bucket = self._kind is _Stretch

        def decide(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int or cost < 1:
                return otherwise(key, cost)
            held: Any = self._held.get(key)
            if held is None:
                return otherwise(key, cost)
            at_ns = time_ns()
            told: Any = None
            with self._lock:  # a call in here would take a tenth of the whole time
                if is_bucket:
                    if at_ns >= held.melts_at_ns:
                        held.melt(at_ns)
                    front = held.front + (token if cost == 1 else cost * token)
                    if front <= held.end:
                        held.front = told = front
                else:
                    left = held.drawn - held.spent - cost
                    if left >= 0 and at_ns < held.ends_at_ns:
                        held.spent += cost
                        told = (held.facts, left)
            if told is None:
                return otherwise(key, cost)
            decision: LeasedDecision = LeasedDecision()
            decision.asked = asked
            decision.key = key
            decision.cost = cost
            decision.told = told
            decision.at_ns = at_ns
            decision.offset_us = held.offset_us
            return decision

        return decide

    def draw(self, group: Group) -> Draw | None:
        """What to ask for besides a group of one hit, if its key is in demand and nobody is drawing for it."""
        hit = group.hits[0]
        if group.action != "spend" or group.max_wait_us > 0 or hit.cost < 1 or hit.limit is not self._limit:
            return None
        key, at_us = hit.key, self._clock()
        with self._lock:
            if key in self._drawing:
                return None
            size, asked_us = self._demand.get(key, (0, 0))
            if size == 0 or at_us - asked_us > self._life_us:  # asked for once: that is no demand yet
                if len(self._demand) >= MAX_KEYS:
                    self._demand.clear()
                self._demand[key] = (max(1, size // 2), at_us)
                return None
            self._demand[key] = (min(2 * size, self._most), at_us)
            if size < hit.cost:  # were the caller denied, a smaller draw could pass, and put off its turn
                return None
            draw = Draw(Group((hit._replace(cost=size),)), at_us)
            return draw if self._drawing.setdefault(key, draw) is draw else None

    def drawn(self, draw: Draw, ahead: Decision | None) -> None:
        """What came of it; None where there is no answer."""
        key = draw.group.hits[0].key
        with self._lock:
            if self._drawing.get(key) is not draw:  # it was discarded meanwhile
                return
            self._drawing.pop(key, None)
            if ahead is None:
                return
            room = max(1, min(ahead.remaining // 2, self._most))  # leave some to the others
            size, asked_us = self._demand.get(key, (1, 0))
            self._demand[key] = (min(size, room), asked_us)
            if ahead.allowed:
                before = self._drop(key, self._clock())
                held = self._kind(self._limit, ahead, ahead.now_us - draw.sent_us, draw.sent_us + self._life_us)
                if before is not None:
                    held.add(*before)
                self._held[key] = held
                self._drawn += ahead.cost

    def _drop(self, key: str, at_us: int) -> tuple[_Stretch | _Share, int] | None:
        """Hold no more of a key: what was held, and how much of it is still good."""
        held = self._held.pop(key, None)
        if held is None:
            return None
        self._spent += held.spent
        left = held.unused(at_us)
        held.close()
        return held, left

    def discard(self, group: Group) -> None:
        """Hold nothing of these keys, nor give it back: they are about to be reset."""
        with self._lock:
            for hit in group.hits:
                self._drop(hit.key, self._clock())
                self._drawing.pop(hit.key, None)  # what is on its way is not to be held either

    def returns(self, *, only_idle: bool) -> list[Group]:
        """What gives back the tokens that nobody used: all of them, or those whose lease has outlived its life."""
        groups = []
        with self._lock:
            at_us = self._clock()
            for key in [key for key, held in list(self._held.items()) if not only_idle or held.idle_at_us <= at_us]:
                held, left = self._drop(key, at_us) or (None, 0)
                if held is not None and left > 0:
                    size, asked_us = self._demand.get(key, (1, 0))
                    self._demand[key] = (max(1, size // 2), asked_us)
                    hit = Hit(self._limit, key, self._name, left, "", held.receipt)
                    groups.append(Group((hit,), 0, "give_back"))
                    self._returned += left
        return groups

    def asking(self, group: Group) -> Plan[Command, Decision]:
        """The plan that asks for a group, and draws tokens ahead of need if its key is in demand."""
        draw = self.draw(group)
        decision: Decision
        ahead: Decision | None = None
        try:
            decision, *more = yield Ask([group] if draw is None else [group, draw.group], requests=1)
            ahead = more[0] if more and more[0].facts else None
        finally:
            if draw is not None:
                self.drawn(draw, ahead)
        return decision

    def giving_back(self, *, only_idle: bool) -> Plan[Command, None]:
        """The plan that gives back what nobody used. Where the store does not answer, it lapses."""
        groups = self.returns(only_idle=only_idle)
        try:
            for at in range(0, len(groups), MAX_GROUPS):
                yield Ask(groups[at : at + MAX_GROUPS], in_outage="raise", must_arrive=True)
        except StoreOutage as outage:
            logger.warning("headgate: could not give back what was leased: %s", outage)

    def returning(self) -> Plan[Command, None]:
        """The plan that gives back what is idle, for as long as anything is held."""
        while (idle_at_us := self._next_idle_us()) is not None:
            yield Pause(max(1, idle_at_us - self._clock()))
            yield from self.giving_back(only_idle=True)

    def _next_idle_us(self) -> int | None:
        with self._lock:
            return min([held.idle_at_us for held in list(self._held.values())], default=None)

    @property
    def is_holding(self) -> bool:
        """Is anything held, be it good or not?"""
        return bool(self._held)

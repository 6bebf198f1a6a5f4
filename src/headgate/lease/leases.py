"""The leases of a limiter: how much is drawn, and for whom.

How many are drawn follows the demand: twice as many each time that they did not last, half as many when some were left.
A key that is asked for once or twice is not in demand, and takes the way that it would take without leases.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from headgate import observer
from headgate.batching import MAX_GROUPS
from headgate.clock import Clock, in_nanoseconds, monotonic_us
from headgate.decision import Decision, LeasedDecision, Single
from headgate.drive import Plan
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, Hit
from headgate.lease.held import Share, Stretch
from headgate.lease.option import Lease, LeaseReport
from headgate.limits import FixedWindow, Limit, SlidingWindow, TokenBucket
from headgate.plans.commands import Ask, Command, IsTold, Pause
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.locks import lock

logger = logging.getLogger("headgate")

MAX_KEYS: Final = 10_000
"""The number of keys of a limiter of which the demand is remembered, beside those of which tokens are held."""
PACE_US: Final = 2
"""Between two looks for what is idle, at least so much time passes for each key of which tokens are held: a look goes
through all of them."""

T = TypeVar("T")


class Draw(NamedTuple):
    """A request for tokens ahead of need, to go with a caller's own."""

    group: Group
    sent_us: int


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
        self._kind: type[Stretch | Share] = Stretch if isinstance(limit, TokenBucket) else Share
        self.forget()
        begin_afresh_in_child(self, Leases.forget)

    def forget(self) -> None:
        """Hold nothing, and give nothing back."""
        self._lock = lock()
        self._held: dict[str, Stretch | Share] = {}
        self._drawing: dict[str, Draw] = {}
        """The draws that are on their way, by key."""
        self._demand: dict[str, tuple[int, int]] = {}
        """By key: how many to draw next, and when it was asked for last. 0 where it was asked for once."""
        self._most_keys = MAX_KEYS
        self._drawn = self._spent = self._returned = 0

    @property
    def report(self) -> LeaseReport:
        """A report on the tokens that were drawn."""
        with self._lock:
            at_us = self._clock()
            leases = list(self._held.values())
            held = sum(one.unused(at_us) for one in leases)
            spent = self._spent + sum(one.spent for one in leases)
            return LeaseReport(self._drawn, spent, self._returned, held)

    def single(self, ask: Single, recall: Single) -> Single:
        """Make what spends a held token, by key and cost. Where there is none, it leaves keys that are not in demand to
        `ask`, the fast path of a store, and those that are to `recall`, its memory of denials: what that leaves alone
        goes by the plan `asking`, which draws.
        """
        asked, time_ns = (self._limit, self._name), in_nanoseconds(self._clock)
        token = self._limit.arguments(1, 0, "")[0]
        is_bucket = self._kind is Stretch

        def otherwise(key: str, cost: int) -> Decision | None:
            if key in self._demand and self._is_in_demand(key):
                return recall(key, cost)
            decision = ask(key, cost)
            if decision is not None and decision.source == "store":
                self._note(key)
            return decision

        def decide(key: Any, cost: Any) -> Decision | None:
            if key.__class__ is not str or cost.__class__ is not int or cost < 1:
                return ask(key, cost)
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

    def submitting(self, submit: Callable[[Any, Any], T | None]) -> Callable[[Any, Any], T | None]:
        """Make what submits hits on keys that are not in demand, by key and cost, and leaves all else alone."""

        def decide(key: Any, cost: Any) -> T | None:
            if key.__class__ is not str or (key in self._demand and self._is_in_demand(key)):
                return None
            submitted = submit(key, cost)
            if submitted is not None and cost > 0:
                self._note(key)
            return submitted

        return decide

    def _is_in_demand(self, key: str) -> bool:
        size, asked_us = self._demand.get(key, (0, 0))
        return size > 0 and self._clock() - asked_us <= self._life_us

    def _note(self, key: str) -> None:
        """Note that a key which is not in demand was asked for."""
        demand, at_us = self._demand, self._clock()
        if len(demand) >= self._most_keys:
            demand = {held: demand[held] for held in list(self._held) if held in demand}
            self._demand, self._most_keys = demand, max(MAX_KEYS, 2 * len(demand))
        size, asked_us = demand.get(key, (0, 0))
        if size > 0:
            size = max(1, size // 2)
        elif at_us - asked_us <= self._life_us:  # for the second time
            size = min(2, self._most)
        demand[key] = size, at_us

    def draw(self, group: Group) -> Draw | None:
        """The draw that is to go with a group of one hit, if its key is in demand and nobody is drawing for it."""
        hit = group.hits[0]
        if group.action != "spend" or group.max_wait_us > 0 or hit.cost < 1 or hit.limit is not self._limit:
            return None
        key, at_us = hit.key, self._clock()
        with self._lock:
            if key in self._drawing:
                return None
            size, asked_us = self._demand.get(key, (0, 0))
            if size == 0 or at_us - asked_us > self._life_us:
                self._note(key)
                return None
            self._demand[key] = (min(2 * size, self._most), at_us)
            if size < hit.cost:  # were the caller denied, a smaller draw could pass, and put off its turn
                return None
            draw = Draw(Group((hit._replace(cost=size),)), at_us)
            return draw if self._drawing.setdefault(key, draw) is draw else None

    def drawn(self, draw: Draw, ahead: Decision | None) -> None:
        """Hold what was drawn. `ahead` is the answer; None where there is none."""
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
        if ahead.allowed and observer.attached:
            tokens = ahead.cost
            observer.tell(lambda one: one.lease_drawn(self._name, key, tokens))

    def _drop(self, key: str, at_us: int) -> tuple[Stretch | Share, int] | None:
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
        """Give back the tokens that nobody used: all of them, or those whose lease has outlived its life."""
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

    def asking(self, group: Group, is_told: IsTold | None = None) -> Plan[Command, Decision]:
        """Ask for a group, and draw tokens ahead of need if its key is in demand."""
        draw = self.draw(group)
        decision: Decision
        ahead: Decision | None = None
        try:
            groups = [group] if draw is None else [group, draw.group]
            decision, *more = yield Ask(groups, requests=1, is_told=is_told)
            ahead = more[0] if more and more[0].facts else None
        finally:
            if draw is not None:
                self.drawn(draw, ahead)
        return decision

    def giving_back(self, *, only_idle: bool) -> Plan[Command, None]:
        """Give back what nobody used. Where the store does not answer, it lapses."""
        groups = self.returns(only_idle=only_idle)
        try:
            for at in range(0, len(groups), MAX_GROUPS):
                returned = groups[at : at + MAX_GROUPS]
                yield Ask(returned, in_outage="raise", must_arrive=True)
                for group in returned if observer.attached else ():
                    self._tell_returned(group.hits[0])
        except StoreOutage as outage:
            logger.warning("headgate: could not give back what was leased: %s", outage)

    def _tell_returned(self, hit: Hit) -> None:
        observer.tell(lambda one: one.lease_returned(self._name, hit.key, hit.cost))

    def returning(self) -> Plan[Command, None]:
        """Give back what is idle, for as long as anything is held."""
        while (idle_at_us := self._next_idle_us()) is not None:
            yield Pause(max(1, idle_at_us - self._clock(), PACE_US * len(self._held)))
            yield from self.giving_back(only_idle=True)

    def _next_idle_us(self) -> int | None:
        with self._lock:
            return min([held.idle_at_us for held in list(self._held.values())], default=None)

    @property
    def is_holding(self) -> bool:
        """Is anything held, be it good or not?"""
        return bool(self._held)

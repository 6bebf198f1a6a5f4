"""The answer to a group of hits: allowed or denied, what binds, what remains, when to come back.

A decision keeps the integers that the store answered and computes what is asked of it when it is asked, exactly. It
must not know how it was obtained.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast

from headgate.algorithms import Facts, token_bucket
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, Hit, SingleHit
from headgate.limits import Limit
from headgate.web.headers import HeaderStyle, render

Source = Literal["store", "memory_of_denial", "lease", "fail_open", "fail_closed", "local"]
"""Who decided. `fail_open` and `fail_closed`: the store did not answer, and the outage rule did."""

Single = Callable[[Any, Any], "Decision | None"]
"""Decides on one hit of one limit, by key and cost, without the detour of a batch, or leaves it alone (None)."""

_SECOND_US = 1_000_000
_HOUR_US = 3_600_000_000
_MAX_TOLD: Final = 10_000

# What is known of a few decisions only is kept beside them. Nothing here is locked: `setdefault` is one step, for other
# threads and for the handler of a signal that comes in between.
_claims: weakref.WeakKeyDictionary[Decision, object] = weakref.WeakKeyDictionary()
"""Of decisions whose tokens have been returned or settled: who did."""
_marks: weakref.WeakKeyDictionary[Decision, str] = weakref.WeakKeyDictionary()
"""What decisions of which there are copies have in common with those."""


class _Forks:
    """Whether other processes may have copies of decisions that nobody has seen being made: those of a fork."""

    def __init__(self) -> None:
        self.last_us: int | None = None
        """When this process forked, or was forked, the last time, by our clock; None if never."""
        self.told: dict[str, int] = {}
        """How many decisions that say the same have got a mark here."""

    def note(self) -> None:
        """Take note that we are about to fork."""
        self.last_us = time.time_ns() // 1_000

    def may_share(self, now_us: int) -> bool:
        """May a decision of this time have been made before the fork? An hour is allowed for clocks that differ. A
        decision of a time that has not come yet is by a clock that has nothing to do with ours.
        """
        last_us = self.last_us
        return last_us is not None and not last_us + _HOUR_US < now_us <= time.time_ns() // 1_000 + _HOUR_US

    def mark(self, decision: Decision) -> str:
        """The mark that a decision gets in each process that shares it unseen: what it says. Another one that says the
        same in one process, as only a clock that stands still brings about, is numbered.
        """
        hits = [(str(hit.limit), *hit[1:5]) for hit in decision.group.hits]
        told = repr((decision.now_us, decision.facts, hits)).encode()
        mark = hashlib.blake2b(told, digest_size=8).hexdigest()
        if len(self.told) >= _MAX_TOLD:
            self.told.clear()
        number = self.told[mark] = self.told.get(mark, 0) + 1
        return mark if number == 1 else f"{mark}-{number}"


_forks = _Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.note)


class Decision:
    """The answer to one request. `bool(decision)` is `decision.allowed`.

    A value: safe to share between threads and tasks.
    """

    __slots__ = ("__weakref__", "_facts", "_group", "allowed", "now_us")

    source: Source = "store"
    """Who decided."""

    def __init__(self, group: Group, now_us: int, allowed: bool, facts: tuple[Facts, ...]) -> None:
        self._group = group
        self.now_us = now_us
        """When the store decided, by its clock, in microseconds since the epoch."""
        self.allowed = allowed
        """May the request go? With a waiting `acquire`: after `wait_us`."""
        self._facts = facts

    @property
    def group(self) -> Group:
        """What was asked."""
        return self._group

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the store answered for each hit; empty if it did not answer."""
        return self._facts

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        verdict = "allowed" if self.allowed else f"denied, retry_after={self.retry_after:.6f}"
        origin = "" if self.source == "store" else f", source={self.source}"
        return (
            f"<Decision {verdict}, key={self.key!r}, binding={self.binding!r}, "
            f"remaining={self.remaining}/{self.limit}{origin}>"
        )

    def _bind(self) -> int:
        """The index of the hit that denied (the one to wait for longest) or is nearest to denying."""
        hits = self.group.hits
        if len(hits) == 1 or not self.facts:
            return 0
        if self.allowed:
            return min(range(len(hits)), key=lambda i: self._remaining(i) / hits[i].limit.capacity)
        return max(range(len(hits)), key=self._retry_after_us)

    def _hit(self) -> Hit:
        return self.group.hits[self._bind()]

    @property
    def instants_us(self) -> Sequence[int]:
        """When each hit was decided, by the clock of whoever decided it."""
        return (self.now_us,) * len(self.group.hits)

    def _remaining(self, index: int) -> int:
        return self.group.hits[index].limit.remaining(self.facts[index], self.instants_us[index])

    def _retry_after_us(self, index: int) -> int:
        hit = self.group.hits[index]
        return hit.limit.retry_after_us(self.facts[index], self.instants_us[index], hit.cost)

    @property
    def binding(self) -> str:
        """The name of the limit that denied or, if allowed, is nearest to denying."""
        hit = self._hit()
        return hit.tier or hit.name

    @property
    def key(self) -> str:
        """The key that the binding limit was asked for."""
        return self._hit().key

    @property
    def cost(self) -> int:
        """The tokens that the binding limit was asked for."""
        return self._hit().cost

    @property
    def limit(self) -> int:
        """The capacity of the binding limit, in tokens."""
        return self._hit().limit.capacity

    @property
    def remaining(self) -> int:
        """The tokens that the binding limit would still admit at once, after this decision."""
        if not self.facts:
            return 0
        return self._remaining(self._bind())

    @property
    def retry_after_us(self) -> int:
        """Microseconds until the same request would be admitted, if nobody else spends; 0 if it was allowed.

        Exact for everything but slots: at this instant by the store's clock it is admitted, one microsecond earlier
        it is not. An outage has no such instant: a second is a guess then.
        """
        if self.allowed:
            return 0
        if not self.facts:
            return _SECOND_US
        return self._retry_after_us(self._bind())

    @property
    def retry_after(self) -> float:
        """`retry_after_us` in seconds."""
        return self.retry_after_us / _SECOND_US

    @property
    def reset_after_us(self) -> int:
        """Microseconds until the binding limit has its whole capacity again, if nobody spends."""
        if not self.facts:
            return 0
        index = self._bind()
        return self.group.hits[index].limit.reset_after_us(self.facts[index], self.instants_us[index])

    @property
    def reset_after(self) -> float:
        """`reset_after_us` in seconds."""
        return self.reset_after_us / _SECOND_US

    @property
    def wait_us(self) -> int:
        """Microseconds until the turn of a request that was admitted into the future; 0 if it may go now."""
        if not self.allowed or self.group.max_wait_us == 0:
            return 0
        waits = [hit.limit.wait_us(facts) for hit, facts in zip(self.group.hits, self.facts, strict=False)]
        return max(waits, default=0)

    def claim(self) -> None:
        """Say that the tokens of this decision are being refunded or settled, which may happen once. For limiters.

        :raises InvalidUse: if it has happened before.
        """
        claim = object()
        if _claims.setdefault(self, claim) is not claim:
            raise InvalidUse("this decision has been refunded or settled before: its tokens can come back only once")

    def mark(self) -> str | None:
        """What tells this decision and its copies from all others; None if it has no copies. For limiters."""
        mark = _marks.get(self)
        if mark is None and _forks.may_share(self.now_us):
            mark = _marks.setdefault(self, _forks.mark(self))
        return mark

    def __getstate__(self) -> object:
        """What copies and pickles are made of: what is kept, and not what a kind of decision makes of it; what the
        copies have in common; and whether the tokens have come back.
        """
        _, found = cast("tuple[None, dict[str, Any]]", super().__getstate__())
        kept = types.MemberDescriptorType
        slots = {name: value for name, value in found.items() if isinstance(getattr(type(self), name), kept)}
        mark = self.mark() or _marks.setdefault(self, secrets.token_hex(8))  # before it is asked who has claimed it
        return slots, mark, self in _claims

    def __setstate__(self, state: tuple[dict[str, Any], str, bool]) -> None:
        slots, _marks[self], is_claimed = state
        for name, value in slots.items():
            setattr(self, name, value)
        if is_claimed:
            _claims[self] = None

    def headers(self, style: HeaderStyle = "legacy") -> dict[str, str]:
        """HTTP response fields for the binding limit, with `Retry-After` on a denial. See
        `headgate.web.headers`.
        """
        hit = self._hit()
        return render(
            style,
            name=hit.tier or hit.name,
            quota=hit.limit.capacity,
            remaining=self.remaining,
            reset_after_us=self.reset_after_us,
            retry_after_us=0 if self.allowed else self.retry_after_us,
            window_us=hit.limit.period_us,
        )


Answer = Decision | StoreOutage
"""What a group gets from a trip to a store: each fails alone."""


def leave(key: object, cost: object) -> None:
    """The `Single` that leaves everything alone."""


class SourcedDecision(Decision):
    """A decision that somebody else made than the store."""

    __slots__ = ("source",)

    def __init__(self, asked: Group, now_us: int, allowed: bool, facts: tuple[Facts, ...], source: Source) -> None:
        super().__init__(asked, now_us, allowed, facts)
        self.source = source


class JoinedDecision(SourcedDecision):
    """A decision of which parts were made at several servers, each by its own clock."""

    __slots__ = ("_instants_us",)

    def __init__(
        self,
        asked: Group,
        instants_us: Sequence[int],
        allowed: bool,
        facts: tuple[Facts, ...],
        source: Source = "store",
    ) -> None:
        super().__init__(asked, max(instants_us), allowed, facts, source)
        self._instants_us = instants_us

    @property
    def instants_us(self) -> Sequence[int]:
        """When each hit was decided, by the clock of whoever decided it."""
        return self._instants_us


class ToldDecision(Decision):
    """The answer to a single hit. It makes a group of what was asked, and facts of what it was told, on demand."""

    __slots__ = ("asked", "cost", "key", "told")

    asked: tuple[Limit, str]
    """The limit and its name."""
    key: str
    """The key that was asked for."""
    cost: int
    """The tokens that were asked for."""
    told: Any
    """What the facts are made of: here, the facts themselves."""

    __init__ = object.__init__  # the quickest way to make one; who makes it fills it

    @property
    def group(self) -> Group:
        """What was asked."""
        limit, name = self.asked
        return Group((Hit(limit, self.key, name, self.cost),))

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the store answered."""
        return (self.told,)


class BucketDecision(ToldDecision):
    """The answer of a token bucket to a single hit, which was told the bucket's theoretical arrival time, in parts
    since the epoch.
    """

    __slots__ = ()

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the store answered."""
        arguments = self.asked[0].arguments(self.cost, 0, "")
        return (token_bucket.plain_facts(self.told, self.now_us, arguments, is_allowed=self.allowed),)


class WindowDecision(ToldDecision):
    """The answer of a fixed or sliding window to a single hit, which was told the window's packed state."""

    __slots__ = ()

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the store answered."""
        limit = self.asked[0]
        algorithm: Any = limit.algorithm  # not every algorithm's states can be packed
        return (algorithm.unpack(self.told, limit.period_us)[0],)


class SingleHitDecision(Decision):
    """The answer of a token bucket to a single hit that travelled with others of its fare. It makes a group and facts
    of what it was told on demand. As a `BucketDecision`, 64 tasks would make a fortieth fewer calls.
    """

    __slots__ = ("asked_for", "debt", "fare")

    fare: SingleHit
    asked_for: str
    """The key."""
    debt: int
    """What the bucket owes, after the hit if it was admitted, in parts of a microsecond."""

    __init__ = object.__init__  # the quickest way to make one; who makes it fills it

    @property
    def group(self) -> Group:
        """What was asked."""
        return self.fare.group(self.asked_for)

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the store answered."""
        arguments = self.fare.limit.arguments(self.fare.cost, 0, "")
        tat = self.now_us * arguments[2] + self.debt
        return (token_bucket.plain_facts(tat, self.now_us, arguments, is_allowed=self.allowed),)

"""Decisions on single hits: they keep what they were told, and make a group and facts of it on demand.

Each is filled by who makes it, field by field, which is the quickest way to make one. The table in the package's
docstring tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headgate.algorithms import Facts, token_bucket
from headgate.decision.decision import Decision, Source
from headgate.decision.standings import single_standing
from headgate.hits import Group, Hit, SingleHit
from headgate.limits import Limit, TokenBucket
from headgate.web.headers import Standing

Single = Callable[[Any, Any], Decision | None]
"""Decides on one hit of one limit, by key and cost, without the detour of a batch, or leaves it alone (None)."""


def undecided(key: object, cost: object) -> None:
    """The `Single` that leaves everything alone."""


class ToldDecision(Decision):
    """The answer to a single hit."""

    __slots__ = ("asked", "cost", "key", "told")

    source: Source = "store"
    asked: tuple[Limit, str]
    """The limit and its name."""
    key: str
    """The key that was asked for."""
    cost: int
    """The tokens that were asked for."""
    told: Any
    """The source of the facts: of a token bucket, its theoretical arrival time, in parts since the epoch; of a window
    in memory, its packed state; or the facts themselves."""

    __init__ = object.__init__

    @property
    def group(self) -> Group:
        """The hit, as a group."""
        limit, name = self.asked
        return Group((Hit(limit, self.key, name, self.cost),))

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The facts that the store told."""
        if type(self.told) is not int:
            return (self.told,)
        limit = self.asked[0]
        if isinstance(limit, TokenBucket):
            arguments = limit.arguments(self.cost, 0, "")
            return (token_bucket.plain_facts(self.told, self.now_us, arguments, is_allowed=self.allowed),)
        return (limit.algorithm.unpack(self.told, limit.period_us)[0],)

    @property
    def instants_us(self) -> tuple[int, ...]:
        """When it was decided."""
        return (self.now_us,)

    def standings(self, names: Sequence[str] | None = None) -> list[Standing]:
        """How the key stands with the limit, as headers tell it."""
        limit, name = self.asked
        if names is not None:
            name = names[0]
        return [single_standing(limit, name, self.key, self.cost, self.facts[0], self.now_us, is_allowed=self.allowed)]

    def left(self) -> tuple[int, int] | None:
        """As `Decision.left`; of a token bucket, without facts."""
        if not self.allowed:
            return None
        limit, told, now_us = self.asked[0], self.told, self.now_us
        if told.__class__ is int and isinstance(limit, TokenBucket):
            return limit.left(told, now_us)
        facts = self.facts[0]
        return limit.remaining(facts, now_us), limit.reset_after_us(facts, now_us)


class SingleHitDecision(Decision):
    """The answer of a token bucket to a single hit that was sent with others that are alike. As a `ToldDecision`, 64
    tasks would make a fortieth fewer calls.
    """

    __slots__ = ("asked", "debt", "key")

    source: Source = "store"
    asked: SingleHit
    key: str
    """The key that was asked for."""
    debt: int
    """The debt of the bucket, after the hit if it was admitted, in parts of a microsecond."""

    __init__ = object.__init__

    @property
    def group(self) -> Group:
        """The hit, as a group."""
        return self.asked.group(self.key)

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The facts that the store told."""
        arguments = self.asked.limit.arguments(self.asked.cost, 0, "")
        tat = self.now_us * arguments[2] + self.debt
        return (token_bucket.plain_facts(tat, self.now_us, arguments, is_allowed=self.allowed),)

    @property
    def instants_us(self) -> tuple[int, ...]:
        """When it was decided."""
        return (self.now_us,)

    def standings(self, names: Sequence[str] | None = None) -> list[Standing]:
        """How the key stands with the limit, as headers tell it."""
        asked = self.asked
        name = asked.name if names is None else names[0]
        facts, now_us = self.facts[0], self.now_us
        return [single_standing(asked.limit, name, self.key, asked.cost, facts, now_us, is_allowed=self.allowed)]

    def left(self) -> tuple[int, int] | None:
        """As `Decision.left`."""
        if not self.allowed:
            return None
        limit, facts, now_us = self.asked.limit, self.facts[0], self.now_us
        return limit.remaining(facts, now_us), limit.reset_after_us(facts, now_us)


Remembered = tuple[int, Limit, int, int, int, Facts, int]
"""A denial that is remembered: `(until_ns, limit, cost, most, offset_us, facts, now_us)`. Denied before `until_ns` by
our clock, for this limit, this cost and larger ones up to `most`. Our time and `offset_us` make the store's; the facts
were those at `now_us` by the store's clock."""


class RememberedDenial(ToldDecision):
    """A denial from memory, of a single hit. It was told what was remembered, and says on demand how that has aged."""

    __slots__ = ("at_ns",)

    source: Source = "memory_of_denial"
    allowed = False
    told: Remembered
    at_ns: int
    """When it was recalled, by our clock."""

    @property
    def now_us(self) -> int:  # type: ignore[override]  # few ask for it, and nobody sets it
        """When the store would have decided, by its clock."""
        return self.at_ns // 1_000 + self.told[4]

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The facts that the store told, as they have aged."""
        _, limit, denied_cost, _, _, facts, denied_us = self.told
        return (limit.age_denial(facts, self.now_us - denied_us, denied_cost, self.cost),)


class LeasedDecision(ToldDecision):
    """A decision on a token that was drawn before. Of a token bucket, it was told where the token's stretch ends; of a
    window, the facts of the draw, and how many of its tokens are left.
    """

    __slots__ = ("at_ns", "offset_us")

    source: Source = "lease"
    allowed = True
    at_ns: int
    """When it was spent, by our clock."""
    offset_us: int
    """The store's time, at the latest, less ours."""

    @property
    def now_us(self) -> int:  # type: ignore[override]  # few ask for it, and nobody sets it
        """When the store would have decided, by its clock, at the latest."""
        return self.at_ns // 1_000 + self.offset_us

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The facts that the store would have told, had nothing been drawn ahead."""
        if type(self.told) is int:
            return super().facts
        (start_us, spent, *previous), left = self.told
        return ((start_us, spent - left, *previous),)

"""Rules as they are asked: those that can be asked in one round trip make one part, with one limiter.

A part's limits stand or fall together. Rules part where they differ in what is done with the answer: in whether they
deny at all, wait, or let requests through in an outage. Rules of one name are one rule: what they have in common is
asked once. This module must not know a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from headgate.decision.standings import policy_of
from headgate.limiter.naming import joined
from headgate.limits import Concurrency, Limit, Penalty
from headgate.limits.grammar import parse_penalty
from headgate.rules import Rule
from headgate.rules.durations import seconds_of
from headgate.stores.contract import Store
from headgate.web.headers import Policy
from headgate.web.placing import label_of

MAX_KNOWN: Final = 1024
"""For how many sets of rules the parts are kept."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that have a share each, where each has one."""
_OTHER: Final = "OTHER"
"""All others: who makes up names of methods makes up no shares."""
_SAID: Final = [
    field.name
    for field in fields(Rule)
    if field.name not in ("limits", "paths", "methods", "is_default", "exempt_when", "message", "near")
]
"""The parts of a rule that say what is charged, and how, its limits aside."""


class Member(NamedTuple):
    """One limit of a part."""

    rule: Rule
    name: str
    """Its name within the rule; empty where the rule has one limit."""
    tiers: Mapping[str, Limit]
    """Its numbers for callers of some tiers."""
    is_penalty: bool
    """Does it take no tokens, and watch the others of its rule?"""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Limits that are asked together."""

    limiter: Any
    """The limiter, blocking or asyncio, that has them."""
    policy: Policy | None
    """The limit as clients are told of it, where it is one, a quota for a time, and the same for all callers."""
    labels: tuple[str, ...]
    """The name of each limit for clients, in the order of the hits: `login`, or `llm:tokens`."""
    states: tuple[tuple[int, str], ...]
    """Where the state of each limit lives, likewise: in which store, and by which name."""
    members: tuple[Member, ...]
    """The rule of each limit, likewise."""
    has_one_key: bool
    """Are key and cost given as they are, and not by label?"""
    wait: float
    """For how many seconds it may wait."""
    is_shadow: bool
    has_slots: bool
    """Are there slots to be held while the request lasts?"""
    is_settled: bool
    """Does a rule say afterwards what counts?"""
    is_watched: bool
    """Are observers to be told that a key is near its limit?"""
    is_plain: bool
    """Is it one limit that is asked for one key at one cost, and is nothing else done with it?"""
    plain_cost: int
    """The cost of each request then."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the parts of rules."""

    kind: Any
    """The class of limiters."""
    store: Store
    name: str
    """The name of all that is stored for an app."""
    penalty: Rule | None = None
    """The penalty of all rules that have none of their own."""

    def parts(self, rules: Sequence[Rule], route: str | None, method: str = "") -> tuple[Part, ...]:
        """The parts of some rules, in the order in which they are asked: those that wait come last, since what they
        wait for would be for nothing if another denied.
        """
        together: dict[object, list[Rule]] = {}
        for rule in _different(rules):
            kind: object = rule
            if not rule.is_shadow and rule.limiter is None:
                kind = seconds_of(rule.wait), rule.on_outage, rule.instances
            number = 0  # a part has no limit twice: where one rule is for two keys, the second is asked by itself
            while any(_are_one(rule, other) for other in together.get((kind, number), ())):
                number += 1
            together.setdefault((kind, number), []).append(rule)
        parts = [self._part(alike, route, method) for alike in together.values()]
        return tuple(sorted(parts, key=lambda part: (part.is_shadow, part.wait)))

    def _part(self, rules: Sequence[Rule], route: str | None, method: str) -> Part:
        limits: dict[str, Limit] = {}
        in_outage: dict[str, Limit] = {}
        members = []
        for rule in self._with_penalty(rules):
            named = [(part, limit, rule.limits_of_tiers(part)) for part, limit in rule.named_limits().items()]
            if rule.penalty is not None:  # it watches those before it
                named.append(("penalty", parse_penalty(rule.penalty), {}))
            for part, limit, tiers in named:
                label = label_of(rule, part, limit, route, method)
                while label in limits:  # two rules of one name and with other numbers, as a new configuration may have
                    label += "+"
                limits[label] = limit
                if part in (shared := rule.in_outage()) and not isinstance(limit, Penalty):
                    in_outage[label] = shared[part]
                members.append(Member(rule, part, tiers, isinstance(limit, Penalty)))
        first = rules[0]
        (label, limit), *others = limits.items()
        limiter: Any = first.limiter
        if limiter is None:
            options = {"store": self.store, "on_outage": first.on_outage, "instances": first.instances}
            limiter = (
                self.kind(limits, name=self.name, outage_limit=in_outage or None, **options)
                if others
                else self.kind(limit, name=joined(self.name, label), outage_limit=in_outage.get(label), **options)
            )
        if first.is_shadow and first.limiter is None:
            limiter = limiter.shadow()
        has_slots = any(isinstance(limit, Concurrency) for limit in limits.values())
        is_watched = any(rule.near for rule in rules)
        plain_cost = _plain_cost(first) if len(members) == 1 else None
        wait = seconds_of(first.wait)
        return Part(
            limiter,
            _policy(limit, label) if len(members) == 1 and not (members[0].tiers or first.limit_for) else None,
            tuple(limits),
            tuple([(id(limiter.store), name) for name in limiter.limits]),
            tuple(members),
            has_one_key=not others or first.limiter is not None,
            wait=wait,
            is_shadow=first.is_shadow,
            has_slots=has_slots,
            is_settled=any(rule.charge_when or rule.actual_cost for rule in rules),
            is_watched=is_watched,
            is_plain=plain_cost is not None and not (wait or first.is_shadow or has_slots or is_watched),
            plain_cost=plain_cost or 0,
        )

    def _with_penalty(self, rules: Sequence[Rule]) -> Sequence[Rule]:
        """Rules that are asked together, with the app's penalty behind those that it watches, and before the others."""
        first = rules[0]
        watched = [rule for rule in rules if not _has_penalty(rule)]
        if self.penalty is None or not watched or first.is_shadow or first.limiter is not None:
            return rules
        return [*watched, self.penalty, *[rule for rule in rules if rule not in watched]]


class KnownParts:
    """The parts of rules, each made once. Safe to share between threads and tasks."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._known: dict[tuple[tuple[Rule, ...], tuple[str, str] | None], tuple[Part, ...]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, rules: tuple[Rule, ...], route: str | None, method: str = "") -> tuple[Part, ...]:
        """The parts of some rules on a route, for requests of a method."""
        known = self._known
        parts = known.get((rules, None))
        if parts is None:
            on = route or "" if any(rule.is_per_route for rule in rules) else ""
            by = _share_of(method) if any(rule.is_per_method for rule in rules) else ""
            key = rules, (on, by) if on or by else None
            parts = known.get(key)
            if parts is None:
                if len(known) >= MAX_KNOWN:
                    known.clear()
                parts = known[key] = self._maker.parts(rules, on, by)
        return parts


def _has_penalty(rule: Rule) -> bool:
    return rule.penalty is not None or any(isinstance(limit, Penalty) for limit in rule.named_limits().values())


def _share_of(method: str) -> str:
    return method if method in _METHODS else "GET" if method == "HEAD" else _OTHER


def _different(rules: Sequence[Rule]) -> list[Rule]:
    """The rules without those that say what another one of the same name says."""
    found: list[Rule] = []
    for rule in dict.fromkeys(rules):
        if not any(_are_one(rule, other) and _says(rule) == _says(other) for other in found):
            found.append(rule)
    return found


def _are_one(rule: Rule, other: Rule) -> bool:
    """Have they a name and limits, or a limiter, that make them one rule?"""
    if rule is other or (rule.limiter is not None and rule.limiter is other.limiter):
        return True
    is_named = bool(rule.name) and rule.name == other.name and rule.is_per_route == other.is_per_route
    return is_named and rule.is_per_method == other.is_per_method and rule.named_limits() == other.named_limits()


def _says(rule: Rule) -> list[Any]:
    return [getattr(rule, name) for name in _SAID]


def _policy(limit: Limit, label: str) -> Policy | None:
    policy = policy_of(limit, label)
    return policy if policy.is_quota and policy.has_window else None


def _plain_cost(rule: Rule) -> int | None:
    is_plain = rule.tier is None and rule.limit_for is None and rule.reserve == 0
    return rule.cost if is_plain and isinstance(rule.cost, int) else None

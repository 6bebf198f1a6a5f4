"""The question that a request puts to a part: by whose key, at what cost, and by which numbers.

This module must not know how it is asked, nor what comes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from headgate.drive import Plan
from headgate.identity import Identity
from headgate.limits import Limit
from headgate.plans.commands import Call
from headgate.rules import Rule
from headgate.rules.rule import CostLike
from headgate.web.messages import WebRequest
from headgate.web.parts import Part

_log: Final = logging.getLogger("headgate")
_OVERRIDES: Final = ("x-http-method-override", "x-http-method", "x-method-override")
"""Headers by which a request asks to be taken for one of another method."""


class Question(NamedTuple):
    """The question for one part. For several limits, all of it is by their labels."""

    key: Any
    cost: Any
    limit: Any
    """The limits of this request; None for those of the part."""
    reserve: Any
    """The tokens that are to be left; None for none."""


def question_of(part: Part, request: WebRequest, identity: Identity, caller: list[str]) -> Plan[Call, Question]:
    """The question of a request for one part. `caller` keeps who it is, once that is known."""
    keys: list[str] = []
    costs: list[int] = []
    limits: dict[str, Any] = {}
    reserves: dict[str, int] = {}
    of_rule: dict[Rule, tuple[str, str | None, int, int, dict[str, Limit]]] = {}
    for (rule, name, tiers, is_penalty), label in zip(part.members, part.labels, strict=True):
        known = of_rule.get(rule)
        if known is None:
            key = yield from key_of(rule, request, identity, caller)
            tier = yield from _tier(rule, request, key)
            cost = 1 if isinstance(rule.cost, Mapping) else (yield from _cost(rule.cost, request))
            reserve = 0 if isinstance(rule.reserve, Mapping) else (yield from _cost(rule.reserve, request))
            known = of_rule[rule] = key, tier, cost, reserve, (yield from _limits_said(rule, request))
        key, tier, cost, reserve, said = known
        if is_penalty:
            cost, reserve = 1, 0
        elif isinstance(rule.cost, Mapping):
            cost = yield from _cost(rule.cost.get(name, 1), request)
        if isinstance(rule.reserve, Mapping):
            reserve = yield from _cost(rule.reserve.get(name, 0), request)
        if reserve:
            reserves[label] = reserve
        keys.append(key)
        costs.append(cost)
        if name in said and not is_penalty:
            limits[label] = said[name]
        elif tier is not None and tier in tiers:
            limits[label] = tiers[tier]
    if part.has_one_key:
        return Question(keys[0], costs[0], limits.get(part.labels[0]), reserves.get(part.labels[0]))
    labels = part.labels
    by_label = dict(zip(labels, keys, strict=True)), dict(zip(labels, costs, strict=True))
    return Question(*by_label, limits or None, reserves or None)


def _tier(rule: Rule, request: WebRequest, key: str) -> Plan[Call, str | None]:
    if rule.tier is None:
        return None
    tier: str | None
    if isinstance(rule.tier, Mapping):
        tier = rule.tier.get(key)
    else:
        tier = yield Call(rule.tier, (request.native,))
    if tier is not None and tier not in rule.tiers:
        _tell_unknown_tier(rule, tier)
    return tier


@lru_cache(maxsize=1024)
def _told_unknown_tier(rule: Rule) -> list[str]:
    return []


def _tell_unknown_tier(rule: Rule, tier: str) -> None:
    """Say once for each rule that a caller is of a tier that it does not have: it may be a slip of the pen."""
    told = _told_unknown_tier(rule)
    if not told:
        told.append(tier)
        known = ", ".join(map(repr, rule.tiers))
        _log.warning("headgate: rule %r has no tier %r, only %s: its own limits apply", rule.title, tier, known)


def _limits_said(rule: Rule, request: WebRequest) -> Plan[Call, dict[str, Limit]]:
    """The limits that a rule has for this request alone, by name."""
    if rule.limit_for is None:
        return {}
    return rule.limits_said((yield Call(rule.limit_for, (request.native,))))


def _cost(cost: CostLike, request: WebRequest) -> Plan[Call, int]:
    if not callable(cost):
        return cost
    found: int = yield Call(cost, (request if getattr(cost, "of_web_request", False) else request.native,))
    return found


def key_at_once(rule: Rule, request: WebRequest, identity: Identity) -> str | None:
    """The key of a request for a rule, where nobody has to be asked for it; None otherwise."""
    key = rule.key
    if key is None:
        return identity.at_once(request)
    if key == "*":
        return "*"
    return (key if isinstance(key, Identity) else identity.by(key)).at_once(request)


def key_of(rule: Rule, request: WebRequest, identity: Identity, caller: list[str]) -> Plan[Call, str]:
    """The same, whoever has to be asked. `caller` is as for `question_of`."""
    key = rule.key
    if key == "*":
        return "*"
    if key is not None:
        own = key if isinstance(key, Identity) else identity.by(key)
        return (yield from own.of(request))
    if not caller:
        caller.append((yield from identity.of(request)))
    return caller[0]


def methods_of(request: WebRequest) -> list[str]:
    """The method of a request, and those for which it wants to be taken."""
    methods = [request.method]
    for name in _OVERRIDES:
        for value in request.values(name):
            methods += [one.strip().upper() for one in value.split(",")]  # servers join headers of one name
    return methods


def is_preflight(request: WebRequest) -> bool:
    """Does a browser ask by it whether it may send another?"""
    is_asked = request.values("origin") and request.values("access-control-request-method")
    return bool(is_asked) and len(methods_of(request)) == 1  # it does not ask to be taken for another method

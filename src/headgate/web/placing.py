"""Rules as they stand on a route: no two without a name have a limit of one name there.

A rule of a route without a name is called by the route and its limits, so that other rules, seen or not, change nothing
in how it is called. Of several with the same limits, those behind the first get a `+` each: in the order in which they
stand on the route, which is the same in all processes, and not in that in which they are asked. This module must not
know a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Final

from headgate.limits import Limit, Penalty
from headgate.rules import Rule


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRule(Rule):
    """A rule of a route without a name, where more is to be said of its place than the route."""

    of_method: str = ""
    """The method of a class-based view that it limits; empty for the view as a whole."""
    place: int = 0
    """How many rules with the same limits stand before it."""


_FIELDS: Final = [one.name for one in fields(Rule)]
_known: Final[dict[tuple[Rule, str, int], PlacedRule]] = {}


def rule_of_method(rule: Rule, method: str) -> Rule:
    """The rule of a method of a class-based view: one without a name has a share for the method, and not one with all
    others of its route. It is the same one each time, in all threads.
    """
    return rule if _stands_alone(rule) or isinstance(rule, PlacedRule) else _placed(rule, method, 0)


@lru_cache(maxsize=1024)
def placed(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """All rules that a route has for itself, in the order in which they stand there, as they are asked: the same ones
    each time.
    """
    if len(rules) == 1:
        return rules
    taken: set[str] = set()
    found = []
    for rule in dict.fromkeys(rules):
        if _stands_alone(rule):
            found.append(rule)
            continue
        method, place = (rule.of_method, rule.place) if isinstance(rule, PlacedRule) else ("", 0)
        while taken.intersection(labels := _labels(rule, method, place)):
            place += 1
        taken.update(labels)
        found.append(_placed(rule, method, place) if place else rule)
    return tuple(found)


def placed_late(rule: Rule, own: Sequence[Rule], late: list[Rule]) -> Rule:
    """A rule of a route that is asked by itself, as it is asked.

    :param own: all rules that the route is seen to have.
    :param late: those that it was not seen to have, and that were asked before about the same request. Rules that it
        does not show stand behind those that it shows, in the order in which they are asked.
    """
    if _stands_alone(rule):
        return rule
    shown = tuple(dict.fromkeys(own))
    if rule in shown:
        return placed(shown)[shown.index(rule)]
    if rule not in late:
        late.append(rule)
    all_of_them = tuple(dict.fromkeys((*shown, *late)))
    return placed(all_of_them)[all_of_them.index(rule)]


def label_of(rule: Rule, part: str, limit: Limit, route: str | None, method: str) -> str:
    """The name of a limit for clients: the rule's, its part's, and its route's and its method's where each of them has
    a share of its own.
    """
    more = ""
    if not rule.is_per_route:
        base = rule.title
    elif rule.name:
        base = f"{rule.name}@{route or '?'}"
    else:
        base, part = route or "?", _text(rule, part, limit)
        if isinstance(rule, PlacedRule):
            base = f"{rule.of_method}@{base}" if rule.of_method else base
            more = "+" * rule.place
    if rule.is_per_method:
        base = f"{base}@{method}"
    return f"{base}:{part}{more}" if part else base


def _stands_alone(rule: Rule) -> bool:
    """Is it called the same wherever it stands?"""
    return bool(rule.name) or not rule.is_per_route


def _labels(rule: Rule, method: str, place: int) -> list[str]:
    parts = rule.named_limits()
    texts = [_text(rule, part, limit) for part, limit in parts.items()]
    if rule.penalty is not None:
        texts.append(f"penalty {_watched(parts.values())}")
    return [f"{method}:{rule.is_per_method}:{text}{'+' * place}" for text in texts]


def _text(rule: Rule, part: str, limit: Limit) -> str:
    """A limit of a rule without a name, in words; with its own name, where the user has given it one."""
    text = str(limit)
    if isinstance(limit, Penalty):  # those of two rules may be alike
        return f"{text} of {_watched(rule.named_limits().values())}"
    return f"{part}={text}" if part and isinstance(rule.limits, Mapping) else text


def _watched(limits: Iterable[Limit]) -> str:
    return ", ".join(str(limit) for limit in limits if not isinstance(limit, Penalty))


def _placed(rule: Rule, method: str, place: int) -> Rule:
    key = rule, method, place
    known = _known.get(key)
    if known is None:
        given = {name: getattr(rule, name) for name in _FIELDS}
        known = _known.setdefault(key, PlacedRule(**given, of_method=method, place=place))
    return known

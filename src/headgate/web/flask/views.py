"""The views of an app of Flask, and the rules that they and their blueprints were given.

Rules are left on functions, classes and blueprints as attributes, so that they pass through other decorators. This
module imports no framework: views say by their attributes what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from headgate.rules import Rule
from headgate.web.placing import rule_of_method

RULES: Final = "__headgate_rules__"
"""Where views and blueprints have the rules that they were given, each beside the limits that it goes by."""
EXEMPT: Final = "__headgate_exempt__"
"""Where they have the limits that they are exempted from."""


class Own(NamedTuple):
    """The rules that a route has for itself, and whether it meets any."""

    given: tuple[Rule, ...] = ()
    """As its decorators were given them."""
    asked: tuple[Rule, ...] = ()
    """As they are asked."""
    is_exempt: bool = False


def own_of(limits: Any, view: Any, blueprints: Iterable[Any], method: str) -> Own:
    """The rules of a view for requests of a method: those of its blueprints, its own, those of its class and of the
    class's method. It is exempt if it says so; or if a blueprint does, and it has no rule of its own.

    :param limits: only the rules that go by these.
    :param blueprints: the view's own first, then those in which that is nested.
    """
    given: list[Rule] = []
    asked: list[Rule] = []
    is_exempt = False
    for place, name in _places(view, method):
        is_exempt = is_exempt or limits in getattr(place, EXEMPT, ())
        for rule in rules_on(limits, place):
            if rule not in given:
                given.append(rule)
                asked.append(rule_of_method(rule, name) if name else rule)
    for blueprint in blueprints:
        is_exempt = is_exempt or (not given and limits in getattr(blueprint, EXEMPT, ()))
        for rule in rules_on(limits, blueprint):
            if rule not in given:
                given.append(rule)
                asked.append(rule)
    return Own((), (), is_exempt=True) if is_exempt else Own(tuple(given), tuple(asked))


def rules_on(limits: Any, place: Any) -> Iterator[Rule]:
    """The rules that a function, a class or a blueprint was given."""
    for one, rule in getattr(place, RULES, ()):
        if one is limits:
            yield rule


def add_rule(limits: Any, place: Any, rule: Rule) -> None:
    """Give a rule to a function or a blueprint."""
    setattr(place, RULES, (*getattr(place, RULES, ()), (limits, rule)))


def exempt_from(limits: Any, place: Any) -> None:
    """Exempt a function, a class or a blueprint."""
    setattr(place, EXEMPT, (*getattr(place, EXEMPT, ()), limits))


def route_name(rules: Iterable[Any]) -> str | None:
    """The name of a route, `POST /login`: that of the first URL of its endpoint, so that all of them are one route."""
    for rule in rules:
        methods = "|".join(methods_of(rule))
        return f"{methods} {getattr(rule, 'host', None) or rule.subdomain or ''}{rule.rule}".lstrip()
    return None


def methods_of(rule: Any) -> tuple[str, ...]:
    """The methods of a URL rule, in alphabetical order: without those that Flask adds by itself."""
    methods = set(rule.methods or ())
    if "GET" in methods:
        methods.discard("HEAD")
    if getattr(rule, "provide_automatic_options", True):
        methods.discard("OPTIONS")
    return tuple(sorted(methods))


def name_of(view: Any) -> str:
    """The name of what answers."""
    named = getattr(view, "view_class", None) or view
    return getattr(named, "__qualname__", None) or type(named).__qualname__


def _places(view: Any, method: str) -> Iterator[tuple[Any, str]]:
    """The function of a view, its class, and the class's method for a request, each with the name of that method."""
    yield view, ""
    kind = getattr(view, "view_class", None)
    if kind is None:
        return
    yield kind, ""
    dispatch = getattr(kind, "dispatch_request", None)
    if dispatch is not None:
        yield dispatch, ""
    handler = getattr(kind, method.lower(), None)
    if handler is None and method == "HEAD":
        handler = getattr(kind, "get", None)
    if handler is not None:
        yield handler, getattr(handler, "__name__", method.lower())

"""The routes of a project, with the rules that each meets. This module decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern

from headgate.rules import Rules
from headgate.web.django.views import name_of, operation_of, operations_of, own_of
from headgate.web.limits import RouteEntry

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_GROUP: Final = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)")
_END: Final = re.compile(r"\??(?:\$|\\Z)$")
_PARAMETER: Final = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


def routes(rules: Rules, urlconf: str | None = None) -> Iterable[RouteEntry]:
    """The routes of a module of URLs, in the order in which Django tries them. Where what is met depends on the
    method, a route is listed several times.

    :param urlconf: the module, as for `ROOT_URLCONF`; None for that.
    """
    answered: set[str] = set()
    for path, view in _patterns(get_resolver(urlconf).url_patterns, ""):
        if operations_of(view):
            if path in answered:  # it is there once for each operation, and the first answers for all
                continue
            answered.add(path)
        yield from _entries(rules, path, view)


def _patterns(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        text = prefix + _text(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, text)
        elif isinstance(pattern, URLPattern):
            yield f"/{text}", pattern.callback


def _text(pattern: Any) -> str:
    text = str(pattern)
    if not isinstance(pattern, RegexPattern):
        return text
    return _GROUP.sub(r"<\1>", _END.sub("", text.removeprefix("^")))


def _entries(rules: Rules, path: str, view: Any) -> Iterator[RouteEntry]:
    found: dict[tuple[Any, ...], list[str]] = {}
    throttled = tuple(_throttles(view))
    plain = _PARAMETER.sub(r"{\1}", path)
    is_exempt_here = rules.is_exempt(plain)
    for method in _methods_of(view):
        own = own_of(view, method)
        is_exempt = own.is_exempt or is_exempt_here
        handler_rules = _later(view, method) if own.has_later else ()
        given = [rule for rule in (*own.rules, *handler_rules) if rule.meets((method,))]
        met = () if is_exempt else (*rules.of(plain, [method], has_own=bool(given)), *given, *throttled)
        found.setdefault((met, is_exempt, name_of(_answering(view, method))), []).append(method)
    for (met, is_exempt, name), methods in found.items():
        named = () if len(found) == 1 and not _is_class(view) else tuple(methods)
        yield RouteEntry(path, named, name, met, is_exempt)


def _methods_of(view: Any) -> Sequence[str]:
    """The methods that a view answers; a function is taken to answer them all."""
    operations = operations_of(view)
    if operations:
        return [method for operation in operations for method in operation.methods]
    actions = getattr(view, "actions", None)
    if actions:
        return [method.upper() for method in actions if method != "head"]
    kind = _class_of(view)
    if kind is None:
        return _METHODS
    return [method for method in _METHODS if hasattr(kind, method.lower()) and method != "OPTIONS"] or _METHODS


def _answering(view: Any, method: str) -> Any:
    """The view; of one of django-ninja, the function that answers a method."""
    operation = operation_of(operations_of(view), method)
    return view if operation is None else operation.view_func


def _class_of(view: Any) -> Any:
    return getattr(view, "view_class", None) or getattr(view, "cls", None)


def _is_class(view: Any) -> bool:
    return _class_of(view) is not None or bool(operations_of(view))


def _later(view: Any, method: str) -> tuple[Any, ...]:
    kind, actions = _class_of(view), getattr(view, "actions", None)
    name = method.lower() if actions is None else actions.get(method.lower(), "")
    return tuple(getattr(getattr(kind, name, None), "headgate_rules", ()))


def _throttles(view: Any) -> Iterator[Any]:
    """The rules of a view's throttles that are the same for all requests."""
    kind = _class_of(view)
    initial = getattr(view, "initkwargs", {})
    classes = initial.get("throttle_classes", getattr(kind, "throttle_classes", ()))
    for throttle in classes:
        listed = getattr(throttle, "listed_rule", None)
        rule = None if listed is None else listed(kind, initial)
        if rule is not None:
            yield rule

"""The rules that views have of their own, as `limit` and `exempt` have left them. This module decides nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from django.urls import ResolverMatch
from django.utils.translation import get_language_from_path

from headgate.rules import Rule
from headgate.web.placing import rule_of_method

RULES: Final = "headgate_rules"
"""The attribute of a view with its rules."""
EXEMPT: Final = "headgate_exempt"
"""The attribute of a view, or of its class, that meets no rule."""


class Own(NamedTuple):
    """The rules of a view, and whether it meets any."""

    rules: tuple[Rule, ...] = ()
    is_exempt: bool = False
    has_later: bool = False
    """Has it rules that are asked later, when REST framework knows the caller?"""


def own_of(view: Any, method: str) -> Own:
    """The rules of a view for requests of a method: its own, those of its class, and those of the class's method."""
    operations = operations_of(view)
    if operations:
        return _own_of_operation(operations, method)
    rules: tuple[Rule, ...] = getattr(view, RULES, ())
    is_exempt = getattr(view, EXEMPT, False)
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if kind is None:
        return Own(rules, is_exempt)
    of_handler, handler = _of_handler(view, kind, method)
    is_exempt = is_exempt or getattr(kind, EXEMPT, False) or getattr(handler, EXEMPT, False)
    if hasattr(kind, "check_throttles"):
        return Own(rules, is_exempt, has_later=any(rule.meets((method,)) for rule in of_handler))
    return Own((*rules, *[rule for rule in of_handler if rule not in rules]), is_exempt)


def all_rules_of(view: Any, method: str) -> tuple[Rule, ...]:
    """All rules of a view for requests of a method, whenever they are asked, and exempt or not."""
    operations = operations_of(view)
    if operations:
        return _own_of_operation(operations, method).rules
    rules: tuple[Rule, ...] = getattr(view, RULES, ())
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return rules if kind is None else (*rules, *_of_handler(view, kind, method)[0])


def _of_handler(view: Any, kind: Any, method: str) -> tuple[tuple[Rule, ...], Any]:
    """The rules of the method of a class-based view that answers a request, and that method."""
    name = method.lower()
    actions = getattr(view, "actions", None)
    handler_name = name if actions is None else actions.get(name, "")
    handler = getattr(kind, handler_name, None) if handler_name else None
    if handler is None and name == "head":
        handler = getattr(kind, "get" if actions is None else actions.get("get", ""), None)
    given: tuple[Rule, ...] = getattr(handler, RULES, ())
    return tuple([rule_of_method(rule, getattr(handler, "__name__", name)) for rule in given]), handler


def operations_of(view: Any) -> Sequence[Any]:
    """The operations of a view of django-ninja, each of which answers some methods; of all other views, none. That view
    is a function which says nothing of them: the object that it was made by has them.
    """
    if getattr(view, "__module__", None) != "ninja.operation":
        return ()
    owner = getattr(view, "__self__", None)
    for cell in getattr(view, "__closure__", None) or ():
        owner = owner or cell.cell_contents
    operations: Sequence[Any] = getattr(owner, "operations", ())
    return operations


def rules_of_operation(operations: Sequence[Any], operation: Any, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules of one of django-ninja's operations. Where a path has several operations, a rule without a name has a
    share for each.
    """
    if len(operations) < 2:
        return tuple(rules)
    return tuple([rule_of_method(rule, operation.methods[0].lower()) for rule in rules])


def operation_of(operations: Sequence[Any], method: str) -> Any:
    """The one of django-ninja's operations that answers a method, if one does."""
    for operation in operations:
        if method in operation.methods:
            return operation
    return None


def _own_of_operation(operations: Sequence[Any], method: str) -> Own:
    """The rules of the operation that answers a method: those around all that is done for it, and its function's."""
    operation = operation_of(operations, method)
    if operation is None:
        return Own()
    run, function = operation.run, operation.view_func
    rules = (*getattr(run, RULES, ()), *getattr(function, RULES, ()))
    is_exempt = getattr(run, EXEMPT, False) or getattr(function, EXEMPT, False)
    return Own(rules_of_operation(operations, operation, rules), is_exempt)


def route_of(match: ResolverMatch, path: str) -> str:
    """The name of the URL, with its namespaces; of one without a name, its view's. It is the same in each language, and
    for each suffix of a format: a route has one share, however it is spelled. django-ninja names URLs after functions,
    of which those of several routers may have one name: there, it is the URL's pattern.
    """
    if not operations_of(match.func):
        return match.view_name
    language = path[1:].partition("/")[0]
    return match.route.removeprefix(f"{language}/") if _is_language(language) else match.route


@functools.lru_cache(maxsize=1024)
def _is_language(text: str) -> bool:
    """Is this the language of a path that begins with it? Django itself remembers only those that are."""
    return get_language_from_path(f"/{text}/") == text


def name_of(view: Any) -> str:
    """The name of a view, or of its class, with its module."""
    while isinstance(view, functools.partial):
        view = view.func
    named = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
    name = getattr(named, "__qualname__", None) or type(named).__qualname__
    return f"{named.__module__}.{name}"

"""The rules that views have of their own, as `limit` and `exempt` have left them. This module decides nothing."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

from headgate.rules import Rule
from headgate.web.limits import rule_of_method

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
    rules: tuple[Rule, ...] = getattr(view, RULES, ())
    is_exempt = getattr(view, EXEMPT, False)
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if kind is None:
        return Own(rules, is_exempt)
    name = method.lower()
    actions = getattr(view, "actions", None)
    handler_name = name if actions is None else actions.get(name, "")
    handler = getattr(kind, handler_name, None) if handler_name else None
    if handler is None and name == "head":
        handler = getattr(kind, "get" if actions is None else actions.get("get", ""), None)
    given: tuple[Rule, ...] = getattr(handler, RULES, ())
    of_handler = tuple([rule_of_method(rule, getattr(handler, "__name__", name)) for rule in given])
    is_exempt = is_exempt or getattr(kind, EXEMPT, False) or getattr(handler, EXEMPT, False)
    if hasattr(kind, "check_throttles"):
        return Own(rules, is_exempt, has_later=bool(of_handler))
    return Own((*rules, *[rule for rule in of_handler if rule not in rules]), is_exempt)


def name_of(view: Any) -> str:
    """The name of a view, or of its class, with its module."""
    while isinstance(view, functools.partial):
        view = view.func
    named = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
    name = getattr(named, "__qualname__", None) or type(named).__qualname__
    return f"{named.__module__}.{name}"

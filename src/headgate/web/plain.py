"""Plain questions: of requests that meet one limit, asked for a key that is at hand, with nothing else to find out.

Most are plain. The plan that finds out all the rest would take longer than their answer. This module must not know how
they are asked.
"""

from __future__ import annotations

from typing import Final

from headgate.rules import Rule, Rules
from headgate.web.admission import Admission
from headgate.web.charging import may_be_charged
from headgate.web.messages import WebRequest
from headgate.web.parts import MAX_KNOWN, KnownParts, Part
from headgate.web.questions import key_at_once

_Met = tuple[tuple[Rule, ...], bool | None, str | None]
"""The rules of a route; has it rules of its own, now or later (None: the app's are not asked)? And the route."""


class PlainQuestions:
    """The plain questions that some rules have for requests. Safe to share between threads and tasks.

    :param parts: the parts of rules.
    :param is_enabled: is anything asked at all?
    """

    def __init__(self, rules: Rules, parts: KnownParts, *, is_enabled: bool = True) -> None:
        self._rules: Final = rules
        self._parts: Final = parts
        self._is_enabled: Final = is_enabled
        self.asks_by_route: Final = is_enabled and any(rule.is_per_route for rule in rules.all)
        """Do some of the app's rules give each route a share of its own, so that the route has to be known?"""
        self._found: dict[_Met | None, Part | None] = {}
        """By what is met; by None, what most requests meet."""

    def of(
        self, request: WebRequest, own: tuple[Rule, ...], *, has_own: bool, known: Admission | None
    ) -> tuple[Part, str] | None:
        """The one part that a request meets, and the key for it; None where there may be more to it. The parameters are
        those of `WebLimiter.admit`.
        """
        met: _Met | None
        if known is not None:
            if known.is_exempt or known.refusal is not None:
                return None
            met = own, None, request.route
        elif request.method == "OPTIONS":  # it may be a preflight
            return None
        elif own or has_own or request.route is not None:
            met = own, has_own or bool(own), request.route
        else:
            met = None
        found = self._found
        part = found[met] if met in found else self._find(met)
        if part is None or (known is not None and may_be_charged(known, part)):
            return None
        rules = self._rules
        if known is None and rules.exempt and rules.is_exempt(request.path):
            return None
        key = key_at_once(part.members[0].rule, request, rules.identity)
        return None if key is None else (part, key)

    def _find(self, met: _Met | None) -> Part | None:
        own, has_own, route = met or ((), False, None)
        rules, part = self._rules, None
        asked = own if has_own is None else (*rules.of("/", (), has_own=has_own), *own)
        is_same = has_own is None or (rules.is_same_for_all and not (rules.allow or rules.deny))
        if self._is_enabled and is_same and asked and not any(map(_depends, asked)):
            parts = self._parts.of(asked, route, "")
            if len(parts) == 1 and parts[0].is_plain:
                part = parts[0]
        if len(self._found) >= MAX_KNOWN:
            self._found = {}
        self._found[met] = part
        return part


def _depends(rule: Rule) -> bool:
    """Is there more to be known of a request, to say whether it meets the rule, and which share is its?"""
    return rule.exempt_when is not None or bool(rule.methods) or rule.is_per_method

"""The costs of a request once its response is known: what its rules say does not count goes back.

This module must not know how a limiter settles.
"""

from __future__ import annotations

from collections.abc import Mapping

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.plans.commands import Call
from headgate.web.messages import WebResponse
from headgate.web.parts import Part


def actual_costs(part: Part, decision: Decision, response: WebResponse) -> Plan[Call, list[int] | None]:
    """The cost of each hit now that its response is known; None if nothing changes."""
    hits = decision.group.hits
    costs = []
    for (rule, name, _, is_penalty), hit in zip(part.members, hits, strict=True):
        cost = hit.cost
        if is_penalty:
            costs.append(cost)
            continue
        actual = rule.actual_cost.get(name) if isinstance(rule.actual_cost, Mapping) else rule.actual_cost
        if rule.charge_when is not None and not (yield Call(rule.charge_when, (response,))):
            cost = 0
        elif actual is not None:
            told = yield Call(actual, (response,))
            cost = hit.cost if told is None else told
        costs.append(cost)
    return costs if costs != [hit.cost for hit in hits] else None

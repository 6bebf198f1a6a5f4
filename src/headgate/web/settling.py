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


def actual_costs(part: Part, decision: Decision, response: WebResponse) -> Plan[Call, list[int | None]]:
    """The cost of each hit now that its response is known; None for what was reserved."""
    costs: list[int | None] = []
    for (rule, name, _, is_penalty), _hit in zip(part.members, decision.group.hits, strict=True):
        if is_penalty:
            costs.append(None)
            continue
        cost: int | None = None
        actual = rule.actual_cost.get(name) if isinstance(rule.actual_cost, Mapping) else rule.actual_cost
        if rule.charge_when is not None and not (yield Call(rule.charge_when, (response,))):
            cost = 0
        elif actual is not None:
            cost = yield Call(actual, (response,))
        costs.append(cost)
    return costs

"""The decision on a request that meets no limit: of limits of which nobody has ever taken anything.

This module must not know a store.
"""

from __future__ import annotations

from headgate.clock import system_clock
from headgate.decision.decision import Decision
from headgate.hits import Group


def untouched(group: Group) -> Decision:
    """Admit a group, as though it were the first."""
    now_us = system_clock()
    facts = []
    for hit in group.hits:
        arguments = hit.limit.arguments(hit.cost, now_us, hit.holder)
        facts.append(hit.limit.algorithm.keep(hit.limit.algorithm.judge(None, now_us, arguments, 0)[1]))
    return Decision(group, now_us, True, tuple(facts), "local")

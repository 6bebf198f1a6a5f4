"""The plans of the limiters' methods, but for waiting: to ask, to give back, to settle, to forget, to release.

This module must not know how a store is asked, nor what its outages lead to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from headgate.decision import Decision
from headgate.decision.combined import Combined
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.commands import Ask, Command, IsTold
from headgate.plans.groups import give_back_groups, refund_groups, settle_groups

logger = logging.getLogger("headgate")


def ask(group: Group, is_told: IsTold | None = None) -> Plan[Command, Decision]:
    """Ask whether a request may go."""
    decision: Decision
    (decision,) = yield Ask([group], requests=1, is_told=is_told)
    return decision


def up_to(groups: Sequence[Group], tell: Callable[[Decision], None]) -> Plan[Command, Decision]:
    """Take as much as there is. The groups differ in their costs alone, and each takes its cost or nothing: see
    `costs_up_to`. What is known in the end is told.
    """
    answers: list[Decision] = yield Ask(list(groups), requests=len(groups), is_told=lambda _: False)
    taken = [answer for answer in answers if answer.allowed]
    known = [answer for answer in taken if answer.facts] or taken  # of several servers, some may be out
    decision = answers[-1] if not known else known[0] if len(known) == 1 else Combined(known)
    tell(decision)
    return decision


def costs_up_to(most: int) -> list[int]:
    """Costs with this sum, in falling order: who takes each of them that fits takes as much as there is. Each is the
    larger half of what is left, so that those behind it add up to one less at least.
    """
    costs = []
    while most > 0:
        costs.append(-(-most // 2))
        most -= costs[-1]
    return costs


def refund(decision: Decision) -> Plan[Command, None]:
    """Give back all that an allowed decision took.

    :raises InvalidUse: if it has been refunded or settled before.
    """
    decision.claim()
    groups = refund_groups(decision)
    if groups:
        yield Ask(groups, must_arrive=True)


def settle(decision: Decision, actual: Sequence[int]) -> Plan[Command, Decision]:
    """Turn the estimates of an allowed decision into the `actual` costs, one for each hit. Returns how things stand
    then, as a decision that cannot be settled again.

    :raises InvalidUse: if it has been refunded or settled before.
    """
    decision.claim()
    if decision.was_known:  # who was charged settles that
        return decision
    groups = settle_groups(decision, actual)
    answers: list[Decision] = []
    if groups:
        answers = yield Ask([group for _, group in groups], must_arrive=True)
    known = {index: answer for (index, _), answer in zip(groups, answers, strict=True) if answer.facts}
    hits = tuple(hit._replace(cost=cost) for hit, cost in zip(decision.group.hits, actual, strict=True))
    facts = tuple(known[index].facts[0] if index in known else own for index, own in enumerate(decision.facts))
    instants_us = [
        known[index].now_us if index in known else now_us for index, now_us in enumerate(decision.instants_us)
    ]
    settled = Decision(Group(hits), max(instants_us), decision.allowed, facts, decision.source, instants_us)
    settled.claim()
    return settled


def forget(group: Group) -> Plan[Command, None]:
    """Forget all that is known of the keys of a group, whatever becomes of others."""
    yield Ask([Group((hit,), 0, "forget") for hit in group.hits], in_outage="raise")


def release(decision: Decision) -> Plan[Command, None]:
    """Release the slots that an allowed decision took. Where the store does not answer, they expire."""
    try:
        yield Ask(give_back_groups(decision, only_slots=True), in_outage="raise", must_arrive=True)
    except StoreOutage as outage:
        logger.warning("headgate: could not release a slot, it will expire: %s", outage)

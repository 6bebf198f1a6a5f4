"""The groups that follow a decision: they give back what it took, settle its estimates, and renew its slots.

This module must not know who asks for them, nor how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from headgate.decision import Decision
from headgate.decision.combined import steps_of
from headgate.hits import Group, Hit, Once
from headgate.limits import Concurrency, Penalty


def takes(hit: Hit) -> bool:
    """Does a hit that passes take anything?"""
    return hit.cost > 0 and not isinstance(hit.limit, Penalty)


def give_back_groups(decision: Decision, *, only_slots: bool = False) -> list[Group]:
    """Return all that an allowed decision took (or only its slots), where nobody has a copy of it."""
    groups = []
    for step in steps_of(decision):
        for hit, facts in zip(step.group.hits, step.facts, strict=False):
            if _has_spent(step) and takes(hit) and (not only_slots or isinstance(hit.limit, Concurrency)):
                groups.append(Group((hit._replace(receipt=hit.limit.receipt(facts, hit.cost)),), 0, "give_back"))
    return groups


def _undo_group(decision: Decision) -> Group | None:
    """Take back a spend that counts once: its tokens and its mark in one step, unless a repeat was answered by the mark
    meanwhile. None for all other decisions.
    """
    group, once = decision.group, decision.group.once
    if once is None or not _has_spent(decision) or not decision.facts:
        return None
    hits = [
        hit._replace(receipt=hit.limit.receipt(facts, hit.cost), spare=0)
        for hit, facts in zip(group.hits, decision.facts, strict=True)
    ]
    left = Once(once.mark, decision.now_us + once.life_us, takes_back=True)
    return Group(tuple(hits), 0, "give_back", left)


def refund_groups(decision: Decision) -> list[Group]:
    """Return all that an allowed decision took, once, even if others send the same, too, who have copies of it."""
    groups = give_back_groups(decision)
    mark = decision.mark() if groups else None
    if mark is None:
        return groups
    ends_us = _mark_ends_us(decision)
    indices = [index for index, hit in enumerate(decision.group.hits) if takes(hit)]
    return [
        _once(group, _mark_of_step(mark, at // len(indices)), ends_us[indices[at % len(indices)]])
        for at, group in enumerate(groups)
    ]


_MARK_LIFE_US: Final = 86_400_000_000
"""The time for which a mark is known at least, from the decision on."""


def _mark_ends_us(decision: Decision) -> list[int]:
    """Until when each hit's mark is to be known: a day at least, and for as long as there is anything to give back."""
    told = zip(decision.group.hits, decision.facts, decision.instants_us, strict=True)
    return [now_us + max(_MARK_LIFE_US, hit.limit.reset_after_us(facts, now_us)) for hit, facts, now_us in told]


def _mark_of_step(mark: str, number: int) -> str:
    """The mark of one of the steps in which a decision spent, of which each comes back by itself."""
    return f"{mark}.{number}" if number else mark


def _once(group: Group, mark: str, until_us: int) -> Group:
    """The same, so that it counts once. Slots have a holder whom nobody else is called, and need no mark."""
    return group if isinstance(group.hits[0].limit, Concurrency) else group._replace(once=Once(mark, until_us))


def returns_of(answers: Iterable[object]) -> list[Group]:
    """Return all that was admitted by answers that nobody gets to see."""
    groups = []
    for answer in answers:
        if isinstance(answer, Decision):
            undo = _undo_group(answer)
            groups += give_back_groups(answer) if undo is None else [undo]
    return groups


def settle_groups(decision: Decision, actual: Sequence[int]) -> list[tuple[int, Group]]:
    """Turn the estimates of an allowed decision into the `actual` costs, and ask how things stand where there is no
    difference: groups, each with the index of the hit that it is for. They count once, as `refund_groups`.
    """
    if not _has_spent(decision) or not decision.facts:
        return []
    mark = decision.mark()
    ends_us = [] if mark is None else _mark_ends_us(decision)
    groups = []
    for index, hit in enumerate(decision.group.hits):
        if isinstance(hit.limit, Penalty):
            continue
        difference = actual[index] - hit.cost
        if isinstance(hit.limit, Concurrency) or (difference == 0 and mark is None):
            group = Group((hit._replace(cost=0),), 0, "peek")
            groups.append((index, group if mark is None else _once(group, mark, ends_us[index])))
            continue
        left = -difference
        for number, step in enumerate(steps_of(decision)):
            of_step = step.group.hits[index]
            if left < 0:
                group, left = Group((hit._replace(cost=-left),), 0, "take"), 0
            elif left > 0 or mark is not None:  # nothing, too, so that no copy gives it back
                cost = min(left, of_step.cost)
                receipt = hit.limit.receipt(step.facts[index], of_step.cost)
                group, left = Group((hit._replace(cost=cost, receipt=receipt),), 0, "give_back"), left - cost
            else:
                break
            groups.append((index, group if mark is None else _once(group, _mark_of_step(mark, number), ends_us[index])))
    return groups


def renew_groups(decision: Decision) -> list[Group]:
    """Put off the expiry of the slots that an allowed decision took."""
    return [
        Group((hit,), 0, "renew")
        for hit in decision.group.hits
        if isinstance(hit.limit, Concurrency) and hit.cost > 0 and decision.facts and _has_spent(decision)
    ]


def _has_spent(decision: Decision) -> bool:
    """Did it take anything? A denial did not, nor did a peek, nor a repeat of what was charged before."""
    return decision.allowed and decision.group.action == "spend" and not decision.was_known

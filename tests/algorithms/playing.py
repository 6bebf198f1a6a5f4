"""Turning drawn steps into groups, one at a time, since what is given back depends on what was admitted before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headgate.decision import Decision
from headgate.hits import Group, Hit, Once
from headgate.limits import Concurrency, Penalty, TokenBucket
from headgate.plans.groups import returns_of
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import LAST_US, START_US, Lane, Step

MOST_CHARGED = 2**45
"""Charges in windows are kept so small that a hundred of them are still counted exactly."""


class Played(NamedTuple):
    """What was asked, when, and what the reference answered."""

    group: Group
    now_us: int
    decision: Decision


def play(
    lanes: Sequence[Lane],
    steps: Sequence[Step],
    reference: Reference,
    *,
    refunds_once: bool = False,
    repeats: bool = False,
    start_us: int = START_US,
) -> Iterator[Played]:
    """Play the steps against the reference. With `refunds_once`, as limiters do: nothing is returned twice, and a part
    only after the turn. With `repeats`, some requests come again, and are allowed without being charged; and some of
    them are undone, now and then twice.
    """
    now_us = start_us
    spent: list[tuple[Hit, int]] = []
    undoing: list[Group] = []
    for number, step in enumerate(steps):
        now_us = min(LAST_US // 2, max(1, now_us + step.move_us))
        if undoing and step.action == "give_back" and step.which % 3 > 0:
            group = undoing[step.which % len(undoing)]
        else:
            group = _group(lanes, step, number, spent, now_us, refunds_once=refunds_once, repeats=repeats)
        decision = reference.decide(group, now_us)
        if group.once is not None and group.action == "spend":
            undoing += returns_of([decision])
        elif decision.allowed and group.action == "spend":
            spent += [
                (hit._replace(receipt=hit.limit.receipt(facts, hit.cost)), now_us + decision.wait_us)
                for hit, facts in zip(group.hits, decision.facts, strict=True)
                if hit.cost > 0 or not refunds_once
            ]
        yield Played(group, now_us, decision)


def _group(
    lanes: Sequence[Lane],
    step: Step,
    number: int,
    spent: list[tuple[Hit, int]],
    now_us: int,
    *,
    refunds_once: bool,
    repeats: bool,
) -> Group:
    hits = []
    for index in step.lanes:
        name, limits = lanes[index]
        limit = limits[step.limits % len(limits)]
        # Mostly costs that can be admitted, and never one that cannot: limiters refuse those.
        cost = step.costs[index] % (limit.capacity + 1)
        holder = f"{number:x}.{limit.period_us}" if number % 2 else f"holder {number}"
        hits.append(Hit(limit, "key", name, cost, holder))
    one = hits[0]
    if step.action == "give_back" and spent:
        index = step.which % len(spent)
        hit, turn_us = spent[index]
        if isinstance(hit.limit, TokenBucket) and step.max_wait_us % 3 == 1:
            hit = hit._replace(receipt=(*hit.receipt[:2], True))
        cost = hit.cost if step.max_wait_us or (refunds_once and turn_us > now_us) else one.cost % (hit.cost + 1)
        if refunds_once:
            del spent[index]
        return Group((hit._replace(cost=cost),), 0, "give_back")
    if step.action == "renew" and isinstance(one.limit, Concurrency):
        held = [hit for hit, _ in spent if hit.name == one.name]
        return Group((held[step.which % len(held)]._replace(limit=one.limit) if held else one,), 0, "renew")
    if step.action == "take" and not isinstance(one.limit, Concurrency):
        return Group((one._replace(cost=step.costs[step.lanes[0]] % MOST_CHARGED),), 0, "take")
    if step.action == "forget":
        return Group((one,), 0, "forget")
    if step.which % 4 == 1:
        hits = [_leaving(hit, step.which // 4) for hit in hits]
    if repeats and step.action == "spend" and step.which % 5 == 2:
        return Group(tuple(hits), 0, "spend", Once(f"mark {step.which % 3}", life_us=max(1, step.max_wait_us)))
    return Group(tuple(hits), step.max_wait_us, "peek" if step.action == "peek" else "spend")


def _leaving(hit: Hit, spare: int) -> Hit:
    """The same hit, behind which tokens are to be left, of limits that have them."""
    if isinstance(hit.limit, (Concurrency, Penalty)):
        return hit
    return hit._replace(spare=spare % (hit.limit.capacity - hit.cost + 1))

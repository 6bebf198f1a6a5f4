"""The charges of a request: rules of one name are one rule, and charge it once for each key.

Where they stand in several places, and these are asked one after the other, the highest of their costs counts: of a
later one that costs more, the difference is asked for. This module must not know who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from headgate.decision import Decision
from headgate.limits import Concurrency, Limit
from headgate.web.admission import Admission, Verdict
from headgate.web.parts import Part
from headgate.web.questions import Question

_Place = tuple[tuple[int, str], str]
"""Where the state of a limit lives, and the key."""


class Charges:
    """The charges of one request so far. Used by one task or thread at a time."""

    def __init__(self, admission: Admission) -> None:
        self._charged: Final[dict[_Place, tuple[Limit, int]]] = {}
        self._looked_at: Final[dict[_Place, tuple[Limit, int]]] = {}
        """By rules that only look: for those that deny, that was nothing."""
        for verdict in verdicts_of(admission):
            self.note(*verdict)
        for part, decision in admission.shadows:
            self.note(part, decision)

    def note(self, part: Part, decision: Decision) -> None:
        """Take note of the charges of a part. Where the store did not answer, that is nothing."""
        if not decision.allowed or decision.source == "fail_open":
            return
        charged = self._looked_at if part.is_shadow else self._charged
        for member, state, hit in zip(part.members, part.states, decision.group.hits, strict=True):
            if not member.is_penalty:
                place = state, hit.key
                charged[place] = hit.limit, hit.cost + charged.get(place, (hit.limit, 0))[1]

    def left(self, part: Part, question: Question) -> Question | None:
        """The part of a question that is not charged yet; None if nothing is left of it."""
        key, cost, limit, reserve = question
        base = list(part.limiter.limits.values())
        costs: dict[str, int] = {}
        has_news = False
        for index, (label, member) in enumerate(zip(part.labels, part.members, strict=True)):
            asked = cost if part.has_one_key else cost[label]
            costs[label] = asked
            if member.is_penalty:
                continue
            own = limit if part.has_one_key else (limit or {}).get(label)
            before = self._before(part, part.states[index], key if part.has_one_key else key[label], own or base[index])
            if before is None:
                has_news = True
                continue
            costs[label] = 0 if isinstance(base[index], Concurrency) else max(0, asked - before)
            has_news = has_news or costs[label] > 0
        if not has_news:
            return None
        return Question(key, max(costs.values()) if part.has_one_key else costs, limit, reserve)

    def _before(self, part: Part, state: tuple[int, str], key: str, limit: Limit) -> int | None:
        """The tokens that the key has been charged by this very limit; None if it has not."""
        place = state, key
        found = [charged[place] for charged in self._of(part) if place in charged]
        costs = [cost for known, cost in found if known == limit]
        return max(costs) if costs else None

    def _of(self, part: Part) -> Iterable[dict[_Place, tuple[Limit, int]]]:
        return (self._charged, self._looked_at) if part.is_shadow else (self._charged,)


def may_be_charged(admission: Admission, part: Part) -> bool:
    """Has a limit of a part been asked about the request before, for whatever key?"""
    if not admission.verdicts and not admission.before:
        return False
    return any(not set(verdict.part.states).isdisjoint(part.states) for verdict in verdicts_of(admission))


def verdicts_of(admission: Admission) -> list[Verdict]:
    """All decisions on the request of an admission, in their order."""
    return [*admission.before, *admission.verdicts]


Finals = dict[_Place, int]
"""The costs of a request after all, by the verdicts that have been settled."""


def settled(part: Part, decision: Decision, said: Sequence[int | None] | None, finals: Finals) -> list[int]:
    """The costs that a verdict has after all, without what those before it have had of the same limits: the request is
    charged the highest of all that are said.

    :param said: the costs that the rules say; None, for one or all, for what was reserved.
    """
    found = []
    hits = decision.group.hits
    for state, hit, cost in zip(part.states, hits, said or (None,) * len(hits), strict=True):
        place = state, hit.key
        before = finals.get(place, 0)
        own = hit.cost if cost is None else max(0, cost - before) if before else cost
        found.append(own)
        if isinstance(own, int):  # whoever settles says what is wrong with another
            finals[place] = before + own
    return found

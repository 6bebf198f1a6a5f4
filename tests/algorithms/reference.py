"""A store in a few lines, which forgets nothing: what the others are compared with."""

from __future__ import annotations

from typing import Any

from headgate.algorithms import Facts, penalty
from headgate.decision import Decision
from headgate.hits import Group, Hit, Once
from headgate.limits import Penalty

Address = tuple[str, str, str]
"""Key, name and algorithm."""


def address_of(hit: Hit) -> Address:
    return hit.key, hit.name, hit.limit.code


class Reference:
    """The algorithms' Python, and a dict. No lock, no clock, no expiry."""

    def __init__(self) -> None:
        self.states: dict[Address, Any] = {}
        self.marks: dict[tuple[str, str, str, str], tuple[int, bool]] = {}
        """Until when a mark is known, of groups that count once, and whether a repeat was told of it."""
        self.expiries: dict[Address, int] = {}
        """Until when a state says something, as of the last time that it was written."""

    def decide(self, group: Group, now_us: int) -> Decision:
        if group.once is not None and group.action == "spend":
            return self._judge_once(group, group.once, now_us)
        if group.once is not None:
            return self._undo(group, group.once, now_us)
        if group.action in ("spend", "peek"):
            return self._judge(group, now_us)
        (hit,) = group.hits
        algorithm = hit.limit.algorithm
        arguments = hit.limit.arguments(hit.cost, now_us, hit.holder)
        state = self.states.get(address_of(hit))
        allowed = True
        if group.action == "give_back":
            facts = self._write(hit, *algorithm.give_back(state, now_us, arguments, hit.receipt))
        elif group.action == "take":
            facts = self._write(hit, *algorithm.take(state, now_us, arguments))
        elif group.action == "renew":
            allowed, written = algorithm.renew(state, now_us, arguments)
            facts = self._write(hit, *written)
        else:
            facts = self._write(hit, None, 0, algorithm.keep(algorithm.judge(None, now_us, arguments, 0)[1]))
        return Decision(group, now_us, allowed, (facts,))

    def _judge_once(self, group: Group, once: Once, now_us: int) -> Decision:
        address = (*address_of(group.hits[0]), once.mark)
        until_us = self.marks.get(address, (0, False))[0]
        if until_us > now_us:
            self.marks[address] = until_us, True
            return self._told(group, once, now_us)
        decision = self._judge(group, now_us)
        if decision.allowed:
            self.marks[address] = now_us + once.life_us, False
        return decision

    def _undo(self, group: Group, once: Once, now_us: int) -> Decision:
        address = (*address_of(group.hits[0]), once.mark)
        if once.until_us <= now_us or self.marks.get(address) != (once.until_us, False):
            return self._told(group, once, now_us)
        del self.marks[address]
        backs = [self.decide(group._replace(hits=(hit,), once=None), now_us) for hit in group.hits]
        return Decision(group, now_us, True, tuple(back.facts[0] for back in backs))

    def _told(self, group: Group, once: Once, now_us: int) -> Decision:
        """The answer where nothing is done."""
        facts = self._judge(group._replace(action="peek"), now_us).facts
        hits = tuple(hit._replace(cost=0) for hit in group.hits)
        return Decision(Group(hits, 0, group.action, once._replace(was_known=True)), now_us, True, facts)

    def _judge(self, group: Group, now_us: int) -> Decision:
        allowed = True
        judged = []
        denying: dict[int, bool] = {}
        for number, hit in enumerate(group.hits):
            arguments = hit.limit.arguments(hit.cost, now_us, hit.holder)
            fits, found = hit.limit.algorithm.judge(
                self.states.get(address_of(hit)), now_us, arguments, group.max_wait_us
            )
            if hit.spare > 0:
                wider = hit.limit.arguments(hit.cost + hit.spare, now_us, "")
                state = self.states.get(address_of(hit))
                is_left, found_wider = hit.limit.algorithm.judge(state, now_us, wider, group.max_wait_us)
                fits, found = (fits, found) if is_left else (False, found_wider)
            allowed = allowed and fits
            denying[number] = not fits
            judged.append(found)
        if allowed and group.action == "spend":
            spent = [hit.limit.algorithm.spend(found) for hit, found in zip(group.hits, judged, strict=True)]
            facts = [self._write(hit, *written) for hit, written in zip(group.hits, spent, strict=True) if written]
        else:
            watched: list[bool] = []
            is_blocked = any(denying[number] for number, hit in enumerate(group.hits) if isinstance(hit.limit, Penalty))
            for number, hit in enumerate(group.hits):
                if not isinstance(hit.limit, Penalty):
                    watched.append(denying[number])
                    continue
                if any(watched) and group.action == "spend" and not is_blocked:
                    judged[number] = penalty.count(judged[number])
                watched = []
            facts = [hit.limit.algorithm.keep(found) for hit, found in zip(group.hits, judged, strict=True)]
            for hit, found in zip(group.hits, judged, strict=True):
                repaired = hit.limit.algorithm.repaired(found)
                if repaired and group.action == "spend":
                    self._write(hit, *repaired, ())
        return Decision(group, now_us, allowed, tuple(facts))

    def _write(self, hit: Hit, state: Any, expires_at: int, facts: Facts) -> Facts:
        address = address_of(hit)
        if state is None:
            self.states.pop(address, None)
            self.expiries.pop(address, None)
        else:
            self.states[address] = state
            self.expiries[address] = expires_at
        return facts

"""Telling what a limiter decided: to its outage rule, to the user's `on_decision`, and to observers.

This module must not know how a decision comes about.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from headgate import observer
from headgate.decision import Decision, Single
from headgate.errors import StoreOutage
from headgate.hits import Group, Hit
from headgate.limiter.outage import OutageRule
from headgate.limits import Concurrency
from headgate.observer import Observer

OnDecision = Callable[[Decision], None]

logger = logging.getLogger("headgate")


class Reporter:
    """Tells what one limiter decided. Safe to share between threads and tasks."""

    def __init__(self, limiter: str, outage_rule: OutageRule, on_decision: OnDecision | None) -> None:
        self._limiter = limiter
        self._outage_rule = outage_rule
        self.on_decision = on_decision
        self.is_shadow = False
        """Are its denials told as those of a rule that only looks?"""

    @property
    def is_needed(self) -> bool:
        """Is there anybody who wants to hear?"""
        return self.on_decision is not None or bool(observer.attached) or self._outage_rule.is_out

    def look(self, decision: Decision, *, is_of_store: bool = True) -> None:
        """See by a decision that an outage is over.

        :param is_of_store: False where something is put in the store's place: an outage of that goes on.
        """
        if self._outage_rule.is_out and is_of_store and decision.source == "store":
            self._outage_rule.over()

    def report(self, decision: Decision, duration_ns: int) -> None:
        """Tell of a decision, which took so long. Whatever goes wrong with that, the decision stands."""
        if self.on_decision is not None:
            try:
                self.on_decision(decision)
            except Exception:  # a callback of the user's
                logger.exception("headgate: on_decision of limiter %r failed; the decision stands", self._limiter)
        if self.is_shadow and not decision.allowed:
            observer.tell(lambda one: one.shadow_denied(self._limiter, decision))
            return
        for one in tuple(observer.attached):  # as `tell` does, in half the time
            try:
                one.decided(self._limiter, decision, duration_ns)
            except Exception:
                observer.note_failure(one)

    def waited(self, decision: Decision, duration_us: int) -> None:
        """Tell of the end of an `acquire` that slept so long."""
        if observer.attached:
            observer.tell(lambda one: one.waited(self._limiter, decision, 1_000 * duration_us))

    def slots_of(self, decision: Decision) -> Callable[[], None]:
        """Tell that the slots of a decision are held in a block from now on. What is returned tells that it has ended,
        to those who heard of the beginning.
        """
        hearing = tuple(observer.attached)
        hits = [hit for hit in decision.group.hits if isinstance(hit.limit, Concurrency) and hit.cost > 0]
        for hit in hits if hearing else ():
            observer.tell(partial(_taken, self._limiter, hit), hearing)

        def ended() -> None:
            for hit in hits if hearing else ():
                observer.tell(partial(_released, self._limiter, hit), hearing)

        return ended

    def reporting(self, single: Single, group: Callable[[Any, Any], Group]) -> Single:
        """The same fast path, with a report of each decision, and of each answer of the outage rule. `group` makes a
        group of a key and a cost.
        """
        clock, rule = time.perf_counter_ns, self._outage_rule

        def decide(key: Any, cost: Any) -> Decision | None:
            started_ns = clock()
            try:
                decision = single(key, cost)
            except StoreOutage as outage:
                decision = rule.decide(group(key, cost), outage)
            if decision is None:
                return None
            duration_ns = clock() - started_ns
            if rule.is_out:
                self.look(decision)
            self.report(decision, duration_ns)
            return decision

        return decide


def _taken(limiter: str, hit: Hit, one: Observer) -> None:
    one.slots_taken(limiter, hit.tier or hit.name, hit.cost)


def _released(limiter: str, hit: Hit, one: Observer) -> None:
    one.slots_released(limiter, hit.tier or hit.name, hit.cost)

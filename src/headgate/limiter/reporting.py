"""Telling what a limiter decided: to its outage rule, to the user's `on_decision`, and to observers.

This module must not know how a decision comes about.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from headgate import observer
from headgate.decision import Decision, Single
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.limiter.outage import OutageRule

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

    def report(self, decision: Decision, duration_ns: int, *, is_of_store: bool = True) -> None:
        """Tell of a decision, which took so long. Whatever goes wrong with that, the decision stands.

        :param is_of_store: False where something is put in the store's place: an outage of that goes on.
        """
        if is_of_store and decision.source == "store" and self._outage_rule.is_out:
            self._outage_rule.over()
        if self.on_decision is not None:
            try:
                self.on_decision(decision)
            except Exception:  # a callback of the user's
                logger.exception("headgate: on_decision of limiter %r failed; the decision stands", self._limiter)
        if not observer.attached:
            return
        if self.is_shadow and not decision.allowed:
            observer.tell(lambda one: one.shadow_denied(self._limiter, decision))
        else:
            observer.tell(lambda one: one.decided(self._limiter, decision, duration_ns))

    def reporting(self, single: Single, group: Callable[[Any, Any], Group]) -> Single:
        """The same fast path, with a report of each decision, and of each answer of the outage rule. `group` makes a
        group of a key and a cost.
        """

        def decide(key: Any, cost: Any) -> Decision | None:
            started_ns = time.perf_counter_ns()
            try:
                decision = single(key, cost)
            except StoreOutage as outage:
                decision = self._outage_rule.decide(group(key, cost), outage)
            if decision is not None:
                self.report(decision, time.perf_counter_ns() - started_ns)
            return decision

        return decide

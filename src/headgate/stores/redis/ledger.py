"""What a store knows by itself, whichever server it asks: how a batch is asked for, what was denied lately, and how far
the server's clock is from ours.

This module must not know how a server is reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from headgate.clock import Clock, system_clock
from headgate.decision import Answer, Decision
from headgate.denials import DenialMemory
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group, SingleHit
from headgate.plans import redis as plans

_MAX_SKEW_US = 1_000_000


class Ledger:
    """See above. Safe to share between threads and tasks.

    :param prefix: the first part of every key, perhaps with a hash tag.
    :param denials: None remembers nothing.
    """

    def __init__(self, prefix: str, denials: DenialMemory | None) -> None:
        self.prefix = prefix
        self.denials = denials
        self.clock: Clock | None = None
        """What decides in place of the server's clock, in tests."""
        self._skew_us = 0

    def use_clock(self, clock: Clock) -> None:
        """Decide by `clock` instead of the server's, for tests."""
        self.clock = clock
        if self.denials is not None:
            self.denials.clear()
            self.denials.clock = clock

    def in_one(self, groups: Sequence[Group], refused: plans.Refused) -> Plan[plans.Script, list[Answer]]:
        """The plan that judges groups in one script call. `refused` makes an outage of the server's words."""
        now_us = None if self.clock is None else self.clock()
        near_us = system_clock() + self._skew_us if now_us is None else now_us
        return plans.decide(groups, prefix=self.prefix, near_us=near_us, now_us=now_us, refused=refused)

    def alike(
        self, fare: SingleHit, keys: Sequence[str], refused: plans.Refused
    ) -> Plan[plans.Script, list[Answer]] | None:
        """The plan that judges single hits that are alike in one script call; None where that is `in_one`."""
        if type(fare) is not plans.BucketSingleHit or len(keys) == 1 or self.clock is not None:
            return None
        return plans.decide_alike(fare, keys, prefix=self.prefix, refused=refused)

    def mark(self) -> tuple[int, int]:
        """When a question is sent, as `DenialMemory.learn` wants to know it."""
        return (0, 0) if self.denials is None else (self.denials.clock(), self.denials.forgettings)

    def learn(self, groups: Sequence[Group], answers: Sequence[Answer], mark: tuple[int, int]) -> None:
        """Remember what was denied, and how far the server's clock is from ours: that is used to guess calendar
        windows, never to decide.
        """
        denials = self.denials
        if denials is not None:
            for answer in answers:
                if not isinstance(answer, StoreOutage) and not answer.allowed:
                    denials.learn(answer, *mark)
            denials.forget(groups)
        first = answers[0]
        if type(first) is Decision and self.clock is None and not first.group.hits[0].limit.is_plain:
            skew_us = first.now_us - system_clock()
            if abs(skew_us - self._skew_us) > _MAX_SKEW_US:
                self._skew_us = skew_us

    def learn_denial(self, denial: Decision, mark: tuple[int, int]) -> None:
        """Remember a denial."""
        if self.denials is not None:
            self.denials.learn(denial, *mark)

    def forget(self, groups: Sequence[Group]) -> None:
        """What was given back may have reached the server, though its answer did not reach us."""
        if self.denials is not None:
            self.denials.forget(groups)

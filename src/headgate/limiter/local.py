"""A share of the limits, which decides in this process's memory while the store does not answer.

Each of `instances` processes has its part: a bucket earns as many times more slowly, and all else counts to as many
times less, rounded down, and at least to 1. So all of them together admit at most what the limit does, beside what the
store has admitted (docs/decisions/0023-local-share.md). What was spent of the share is remembered from one outage to
the next.

What was decided here is followed here: hits on the share bear a name that no other has, by which refunds, renewals and
charges find back, whether the store answers by then or not. This module must not know how a store is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final

from headgate.clock import Clock, system_clock
from headgate.decision import Decision
from headgate.errors import InvalidUse, LimitOutOfBounds
from headgate.hits import Group, Hit
from headgate.limits import Limit, Penalty, TokenBucket
from headgate.stores.memory import MemoryStore

MAX_ENTRIES: Final = 100_000
"""How many keys the share remembers."""
MAX_INSTANCES: Final = 1_000_000
_MARK: Final = "\0"
"""Begins the name of each hit on the share. No limit's name holds it."""


class LocalShare:
    """The share of one limiter, and the memory that it is counted in. Safe to share between threads and tasks.

    :param instances: how many processes have a share.
    :raises InvalidUse: if that is no number of processes.
    """

    def __init__(self, instances: int = 1, clock: Clock = system_clock) -> None:
        if type(instances) is not int or not 1 <= instances <= MAX_INSTANCES:
            raise InvalidUse(f"instances is a number of processes from 1 to {MAX_INSTANCES:,}, not {instances!r}")
        self.instances: Final = instances
        self._store = MemoryStore(clock, max_entries=MAX_ENTRIES)

    def check(self, limits: Sequence[Limit]) -> None:
        """See that limits can be shared.

        :raises LimitOutOfBounds: if a share of one would take too long to fill.
        """
        for limit in limits:
            try:
                share_of(limit, self.instances)
            except LimitOutOfBounds as error:
                raise LimitOutOfBounds(f"the share of {limit} among {self.instances} instances: {error}") from None

    def decide(self, group: Group) -> Decision:
        """Answer a request that the store did not answer."""
        shared = Group(tuple([self._hit(hit) for hit in group.hits]), *group[1:])
        if any(hit.cost > hit.limit.capacity for hit in shared.hits if not isinstance(hit.limit, Penalty)):
            return Decision(shared, 0, False, (), "local")  # never, by this share: nobody knows when the store is back
        return self.follow([shared])[0]

    def _hit(self, hit: Hit) -> Hit:
        return hit._replace(
            limit=share_of(hit.limit, self.instances), name=_MARK + hit.name, tier=hit.tier or hit.name, receipt=None
        )

    def follow(self, groups: Sequence[Group]) -> list[Decision]:
        """Do what follows earlier decisions of this share."""
        return [
            Decision(decision.group, decision.now_us, decision.allowed, decision.facts, "local")
            for decision in self._store.decide(groups)
        ]

    def forget(self, group: Group) -> None:
        """Forget what is known here of the keys of a group."""
        self._store.decide([Group((self._hit(hit),), 0, "forget") for hit in group.hits])

    def around(self, ask: Callable[[list[Group]], list[Decision]]) -> Callable[[list[Group]], list[Decision]]:
        """Ask a store for what is its own, and this share for what is of it."""

        def route(groups: list[Group]) -> list[Decision]:
            own = [group for group in groups if is_of_share(group)]
            others = [group for group in groups if not is_of_share(group)]
            answers = iter(self.follow(own))
            told = iter(ask(others) if others else ())
            return [next(answers if is_of_share(group) else told) for group in groups]

        return route

    def around_async(
        self, ask: Callable[[list[Group]], Awaitable[list[Decision]]]
    ) -> Callable[[list[Group]], Awaitable[list[Decision]]]:
        """As `around`."""

        async def route(groups: list[Group]) -> list[Decision]:
            return self.follow(groups) if is_of_share(groups[0]) else await ask(groups)  # all are of one hold

        return route


def is_of_share(group: Group) -> bool:
    """Is it about something that was decided by a share?"""
    return group.hits[0].name.startswith(_MARK)


@lru_cache(maxsize=4096)
def share_of(limit: Limit, instances: int) -> Limit:
    """The part of a limit that one of so many processes has.

    :raises LimitOutOfBounds: if it would take too long to fill.
    """
    if isinstance(limit, Penalty) or instances == 1:
        return limit
    if isinstance(limit, TokenBucket):
        period = timedelta(microseconds=limit.period_us * instances)  # the rate is divided without a rest
        return TokenBucket(limit.rate, period, max(1, limit.burst // instances))
    kind: Callable[..., Limit]
    kind, (count, *rest) = limit.__reduce__()  # all others are made from a number, and more
    return kind(max(1, count // instances), *rest)

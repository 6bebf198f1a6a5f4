"""A share of the limits, which decides in this process's memory while the store does not answer.

Each of `instances` processes has its part: a bucket earns as many times more slowly, and all else counts to as many
times less, rounded down; where that would be nothing, it counts to 1, in a longer time. So all of them together admit
at most what the limit does, beside what the store has admitted (docs/decisions/0023-local-share.md). A process has one
share, whichever of its limiters asks: it is counted in one memory for each place where state is stored, from one outage
to the next, and from a limiter to the one that is made in its place.

What was decided here is followed here: hits on the share bear a name that tells this memory from all others, by which
refunds, renewals and charges find back, whether the store answers by then or not. Where that memory is another
process's, nothing happens. This module must not know how a store is asked.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final

from headgate.clock import Clock, system_clock
from headgate.decision import Decision
from headgate.errors import InvalidUse, LimitOutOfBounds
from headgate.hits import Group, Hit
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, TokenBucket
from headgate.stores.contract import Store
from headgate.stores.memory import MemoryStore

MAX_ENTRIES: Final = 1_000_000
"""How many keys and limits a process remembers of one place."""
MAX_PLACES: Final = 1_000
"""Of how many places a process remembers anything that no limiter is on any more."""
MAX_INSTANCES: Final = 1_000_000
_SIGN: Final = "\0"
"""Begins the name of each hit on a share. No limit's name holds it."""
_MARK_DIGITS: Final = 16


class _Memory:
    """The memory in which the shares of all limiters of one place are counted."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self.store: Final = MemoryStore(clock, max_entries=MAX_ENTRIES)
        self.mark: Final = secrets.token_hex(_MARK_DIGITS // 2)
        """Tells it from those of other places and processes. A forked process has a copy, which counted the same."""
        _by_mark[self.mark] = self


_by_mark: Final[weakref.WeakValueDictionary[str, _Memory]] = weakref.WeakValueDictionary()
_by_place: Final[dict[Hashable, _Memory]] = {}
"""Of stores that say where their state is: however often they are opened anew."""
_by_store: Final[weakref.WeakKeyDictionary[Store, _Memory]] = weakref.WeakKeyDictionary()
"""Of other stores: for as long as they live."""


def _memory_of(store: Store) -> _Memory:
    """The memory for all limiters on a store. Each `setdefault` is one step, for other threads."""
    place: Hashable | None = getattr(store, "place", None)
    if place is not None:
        found = _by_place.get(place)
        if found is None:
            while len(_by_place) >= MAX_PLACES:
                _by_place.pop(next(iter(_by_place), None), None)
            found = _by_place.setdefault(place, _Memory())
        return found
    try:
        return _by_store.get(store) or _by_store.setdefault(store, _Memory())
    except TypeError:  # nothing can be known by it: it has no hash, or takes no weak references
        return _Memory()


class LocalShare:
    """The share of one limiter. Safe to share between threads, tasks and forked processes.

    :param instances: how many processes have a share.
    :param clock: for a memory of its own, in which none but this limiter counts.
    :param in_place: other limits that are shared in place of the limiter's own, with their names: by tier, or by name
        where there are no tiers.
    :raises InvalidUse: if that is no number of processes.
    """

    def __init__(
        self,
        instances: int = 1,
        clock: Clock | None = None,
        in_place: Mapping[str, tuple[Limit, str]] | None = None,
    ) -> None:
        if type(instances) is not int or not 1 <= instances <= MAX_INSTANCES:
            raise InvalidUse(f"instances is a number of processes from 1 to {MAX_INSTANCES:,}, not {instances!r}")
        self.instances: Final = instances
        self._in_place: Final = dict(in_place or {})
        self._memory = None if clock is None else _Memory(clock)

    def count_with(self, store: Store) -> None:
        """Count together with all other shares of this process that stand in for the same state."""
        self._memory = _memory_of(store)

    @property
    def _counted(self) -> _Memory:
        if self._memory is None:
            self._memory = _Memory()
        return self._memory

    def check(self, limits: Sequence[Limit]) -> None:
        """See that limits can be shared.

        :raises LimitOutOfBounds: if a share of one would take too long to fill.
        """
        for limit in (*limits, *[limit for limit, _ in self._in_place.values()]):
            try:
                share_of(limit, self.instances)
            except LimitOutOfBounds as error:
                raise LimitOutOfBounds(f"the share of {limit} among {self.instances} instances: {error}") from None

    def decide(self, group: Group) -> Decision:
        """Answer a request that the store did not answer."""
        try:
            shared = Group(tuple([self._hit(hit) for hit in group.hits]), *group[1:])
        except LimitOutOfBounds:  # a limit of this call, of which a share takes longer than anybody counts
            return Decision(group, 0, False, (), "local")
        if any(hit.needed > hit.limit.capacity for hit in shared.hits if not isinstance(hit.limit, Penalty)):
            return Decision(shared, 0, False, (), "local")  # never, by this share: nobody knows when the store is back
        return _decided(self._counted, shared)

    def _hit(self, hit: Hit) -> Hit:
        limit, name = self._shared(hit)
        return hit._replace(
            limit=share_of(limit, self.instances),
            name=f"{_SIGN}{self._counted.mark}{name}",
            tier=hit.tier or hit.name,
            receipt=None,
            spare=-(-hit.spare // self.instances),
        )

    def _shared(self, hit: Hit) -> tuple[Limit, str]:
        """The limit that is shared, and its name. Slots and penalties are what they are, whatever the call says."""
        is_spent = not isinstance(hit.limit, (Concurrency, Penalty))
        return self._in_place.get(hit.tier or hit.name, (hit.limit, hit.name)) if is_spent else (hit.limit, hit.name)

    def forget(self, group: Group) -> None:
        """Forget what is known here of the keys of a group."""
        self._counted.store.decide([Group((self._hit(hit),), 0, "forget") for hit in group.hits])


def _decided(memory: _Memory, group: Group) -> Decision:
    (decision,) = memory.store.decide([group])
    return Decision(decision.group, decision.now_us, decision.allowed, decision.facts, "local")


def follow(groups: Sequence[Group]) -> list[Decision] | None:
    """Do what follows an earlier decision of a share. None if it was no share that decided."""
    return [_followed(group) for group in groups] if groups and _is_of_share(groups[0]) else None


def _followed(group: Group) -> Decision:
    memory = _by_mark.get(group.hits[0].name[1 : 1 + _MARK_DIGITS])
    if memory is None:  # another process's: nothing was taken here
        return Decision(group, 0, group.action != "renew", (), "local")
    return _decided(memory, group)


def _is_of_share(group: Group) -> bool:
    return group.hits[0].name.startswith(_SIGN)


def around(ask: Callable[[list[Group]], list[Decision]]) -> Callable[[list[Group]], list[Decision]]:
    """Ask a store for what is its own, and a share for what is of it. What is of a share is done though the store does
    not answer.
    """

    def route(groups: list[Group]) -> list[Decision]:
        followed = iter([_followed(group) for group in groups if _is_of_share(group)])
        others = [group for group in groups if not _is_of_share(group)]
        told = iter(ask(others) if others else ())
        return [next(followed if _is_of_share(group) else told) for group in groups]

    return route


def around_async(
    ask: Callable[[list[Group]], Awaitable[list[Decision]]],
) -> Callable[[list[Group]], Awaitable[list[Decision]]]:
    """As `around`."""

    async def route(groups: list[Group]) -> list[Decision]:
        followed = follow(groups)  # all are of one hold
        return await ask(groups) if followed is None else followed

    return route


@lru_cache(maxsize=4096)
def share_of(limit: Limit, instances: int) -> Limit:
    """The part of a limit that one of so many processes has.

    :raises LimitOutOfBounds: if it would take too long to fill.
    """
    if isinstance(limit, Penalty) or instances == 1:
        return limit
    if isinstance(limit, TokenBucket):
        period = _period(limit.period_us * instances)  # the rate is divided without a rest
        return TokenBucket(limit.rate, period, max(1, limit.burst // instances))
    is_of_calendar = isinstance(limit, FixedWindow) and limit.unit is not None
    if limit.rate < instances and not (isinstance(limit, Concurrency) or is_of_calendar):
        kind: Callable[..., Limit] = type(limit)  # 1 for each, and as much more seldom as there are more instances
        return kind(1, _period(-(-limit.period_us * instances // limit.rate)))
    kind, (count, *rest) = limit.__reduce__()  # all others are made from a number, and more
    return kind(max(1, count // instances), *rest)


def _period(us: int) -> timedelta:
    try:
        return timedelta(microseconds=us)
    except OverflowError:
        raise LimitOutOfBounds(f"a period of {us} microseconds is longer than anybody counts") from None

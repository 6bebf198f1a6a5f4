"""Concurrency: a set of holders, each with an expiry. A holder renews while it lives; a crashed one's slot comes
back.

A cost of n takes n slots, held under one holder's name. Instants of expiry are absolute, by the store's clock.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple

Arguments = tuple[int, int, int, str]
"""`(cost, most, ttl, holder)`."""
Facts = tuple[int, int, int]
"""`(held, free_at, last)`: slots held after the decision; when a denied hit fits at the latest, if nobody renews
(0: it was not denied); when the last slot held now expires (0: none is)."""


class State:
    """The slots that are held, `holder:number`, in order of expiry. Changed in place: a state belongs to one store."""

    __slots__ = ("by_expiry", "expiries")

    def __init__(self) -> None:
        self.by_expiry: list[tuple[int, str]] = []
        self.expiries: dict[str, int] = {}

    def put(self, slot: str, expiry: int) -> None:
        """Hold a slot until `expiry`, from now on or on from now."""
        self.drop(slot)
        self.expiries[slot] = expiry
        insort(self.by_expiry, (expiry, slot))

    def drop(self, slot: str) -> None:
        """Hold a slot no more."""
        expiry = self.expiries.pop(slot, None)
        if expiry is not None:
            del self.by_expiry[bisect_left(self.by_expiry, (expiry, slot))]

    def drop_expired(self, now: int) -> None:
        """Hold no slot any more that has expired."""
        expired = bisect_left(self.by_expiry, (now + 1, ""))
        if expired:
            for _, slot in self.by_expiry[:expired]:
                del self.expiries[slot]
            del self.by_expiry[:expired]

    def held(self) -> int:
        """How many are held."""
        return len(self.by_expiry)

    def last(self) -> int:
        """When the last of them expires; 0 if none is held."""
        return self.by_expiry[-1][0] if self.by_expiry else 0


class Judged(NamedTuple):
    """A hit that was judged but not yet spent."""

    slots: State
    now: int
    cost: int
    ttl: int
    holder: str
    free_at: int


def settle(state: State | None, now: int) -> State:
    """Drop the slots that have expired."""
    slots = State() if state is None else state
    slots.drop_expired(now)
    return slots


def names(holder: str, cost: int) -> list[str]:
    """The slots of a holder."""
    return [f"{holder}:{number}" for number in range(1, cost + 1)]


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May the holder have its slots now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, ttl, holder = arguments
    slots = settle(state, now)
    held = slots.held()
    allowed = held + cost <= most
    free_at = 0 if allowed else slots.by_expiry[min(held, held + cost - most) - 1][0]
    return allowed, Judged(slots, now, cost, ttl, holder, free_at)


def spend(judged: Judged) -> tuple[State | None, int, Facts]:
    """Take the slots."""
    slots, now, cost, ttl, holder, free_at = judged
    for slot in names(holder, cost):
        slots.put(slot, now + ttl)
    return write(slots, free_at)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    slots = judged.slots
    return slots.held(), judged.free_at, slots.last()


def give_back(state: State | None, now: int, arguments: Arguments, receipt: object) -> tuple[State | None, int, Facts]:
    """Release the holder's slots."""
    slots = settle(state, now)
    for slot in names(arguments[3], arguments[0]):
        slots.drop(slot)
    return write(slots, 0)


def renew(state: State | None, now: int, arguments: Arguments) -> tuple[bool, State | None, int, Facts]:
    """Put off the expiry of a holder's slots. False where one of them has expired, and may be another's by now."""
    cost, _, ttl, holder = arguments
    slots = settle(state, now)
    held = all(slot in slots.expiries for slot in names(holder, cost))
    if held:
        for slot in names(holder, cost):
            slots.put(slot, now + ttl)
    return held, *write(slots, 0)


def write(slots: State, free_at: int) -> tuple[State | None, int, Facts]:
    """The state as it is kept, until the last slot expires."""
    held = slots.held()
    return slots if held else None, slots.last(), (held, free_at, slots.last())


def wire(arguments: Arguments) -> tuple[int | str, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: object) -> tuple[int, ...]:
    """Nothing: the holder is among the arguments."""
    return ()


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()

"""Concurrency: a set of holders, each with an expiry. A holder renews while it lives; a crashed one's slot comes
back.

A cost of n takes n slots, held under one holder's name. Instants of expiry are absolute, by the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Arguments = tuple[int, int, int, str]
"""`(cost, most, ttl, holder)`."""
Facts = tuple[int, int, int]
"""`(held, free_at, last)`: slots held after the decision; when a denied hit fits at the latest, if nobody renews
(0: it was not denied); when the last slot held now expires (0: none is)."""

State = dict[str, int]
"""The expiry of each slot, by `holder:number`. It is changed in place: a state belongs to one store."""


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
    if state is None:
        return {}
    for slot in [slot for slot, expiry in state.items() if expiry <= now]:
        del state[slot]
    return state


def names(holder: str, cost: int) -> list[str]:
    """The slots of a holder."""
    return [f"{holder}:{number}" for number in range(1, cost + 1)]


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May the holder have its slots now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, ttl, holder = arguments
    slots = settle(state, now)
    allowed = len(slots) + cost <= most
    free_at = 0
    if not allowed:
        free_at = sorted(slots.values())[min(len(slots), len(slots) + cost - most) - 1]
    return allowed, Judged(slots, now, cost, ttl, holder, free_at)


def spend(judged: Judged) -> tuple[State | None, int, Facts]:
    """Take the slots."""
    slots, now, cost, ttl, holder, free_at = judged
    for slot in names(holder, cost):
        slots[slot] = now + ttl
    return write(slots, free_at)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    slots = judged.slots
    return len(slots), judged.free_at, max(slots.values(), default=0)


def give_back(state: State | None, now: int, arguments: Arguments, receipt: object) -> tuple[State | None, int, Facts]:
    """Release the holder's slots."""
    slots = settle(state, now)
    for slot in names(arguments[3], arguments[0]):
        slots.pop(slot, None)
    return write(slots, 0)


def renew(state: State | None, now: int, arguments: Arguments) -> tuple[bool, State | None, int, Facts]:
    """Put off the expiry of a holder's slots. False where one of them has expired, and may be another's by now."""
    cost, _, ttl, holder = arguments
    slots = settle(state, now)
    held = all(slot in slots for slot in names(holder, cost))
    if held:
        for slot in names(holder, cost):
            slots[slot] = now + ttl
    return held, *write(slots, 0)


def write(slots: State, free_at: int) -> tuple[State | None, int, Facts]:
    """The state as it is kept, until the last slot expires."""
    last = max(slots.values(), default=0)
    return slots or None, last, (len(slots), free_at, last)


def wire(arguments: Arguments) -> tuple[int | str, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: object) -> tuple[int, ...]:
    """Nothing: the holder is among the arguments."""
    return ()


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()

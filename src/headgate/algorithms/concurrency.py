"""Concurrency: a set of holders, each with an expiry. A holder renews while it lives; a crashed one's slot comes
back.

A cost of n takes n slots, held under one holder's name. Instants of expiry are absolute, by the store's clock. A
holder whose name ends in its ttl (`<hex digits>.<microseconds>`) holds no slot for longer than that from now: where
one expires later, the clock stepped back.

Slots are changed in place, by whoever comes in: a signal handler may ask for a slot in the midst of another's call.
The interpreter lets it in after calls, at a function's entry and where a loop goes back, and at no other place. What
is said of the slots at each of these is true, and a change is one call or instruction, right after a look at whether
anything has changed since what it is based on.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final, Never, TypeAlias

from headgate.algorithms import Lasting, Written, not_here, texts
from headgate.errors import InvalidUse

Arguments = tuple[int, int, int, str]
"""`(cost, most, ttl, holder)`."""
Facts = tuple[int, int, int]
"""`(held, free_at, last)`: slots held after the decision; when a denied hit fits at the latest, if nobody renews
(0: it was not denied); when the last slot held now expires (0: none is)."""
Receipt: TypeAlias = None
"""There is none: slots go by their holder, who is among the arguments."""

_SLOT: Final = re.compile(r"[0-9A-Fa-f]+\.([0-9]+):[0-9]+")


class State:
    """The slots that are held, `holder:number`. Changed in place: a state belongs to one store."""

    __slots__ = ("changes", "order", "slots")

    def __init__(self) -> None:
        self.slots: dict[str, int] = {}
        """When each expires. This alone is the truth."""
        self.order: list[tuple[int, str]] = []
        """`(expiry, slot)`, sorted: of all slots, and perhaps of some that were held or are going to be."""
        self.changes = 0
        """Counts the changes of `slots`, and what is taken out of `order`."""

    def put(self, slots: dict[str, int], changes: int) -> bool:
        """Hold slots until they expire, from now on or on from now. False, with nothing done, where anything was
        changed since `changes` were counted.
        """
        known, former = self.slots, []
        for slot, expiry in slots.items():
            insort(self.order, (expiry, slot))
            if slot in known:
                former.append((known[slot], slot))
        if self.changes != changes:
            return False
        self.changes = changes = changes + 1
        self.slots.update(slots)
        for entry in former:
            self._forget(entry, changes)
        return True

    def drop(self, names: list[str]) -> tuple[int, int]:
        """Hold some slots no more. Returns how many are held then, and when the last of them expires."""
        gone = frozenset(names)
        while True:
            held, order, changes = self.look()
            # Several go at once with a new dict; for one, which is usual, an instruction does.
            slots = self.slots if len(names) == 1 else self.slots.copy()
            former = [(slots[slot], slot) for slot in names if slot in slots]
            held -= len(former)
            last = next((expiry for expiry, slot in reversed(order) if slot not in gone), 0)
            if len(names) != 1:
                for _, slot in former:
                    del slots[slot]
            if self.changes != changes:
                continue
            if former:
                self.changes = changes = changes + 1
                if slots is self.slots:
                    del slots[former[0][1]]
                else:
                    self.slots = slots
                for entry in former:
                    self._forget(entry, changes)
            return held, last

    def drop_expired(self, now: int) -> None:
        """Hold no slot any more that has expired."""
        while True:
            changes = self.changes
            order = self.order
            if not order or order[0][0] > now:
                return
            expired = slice(0, bisect_left(order, (now + 1,)))
            at = 0
            while True:
                if at == expired.stop or self.changes != changes:
                    break
                expiry, slot = order[at]
                slots = self.slots
                if slot in slots and slots[slot] == expiry:
                    self.changes = changes = changes + 1
                    del slots[slot]
                at += 1
            if self.changes == changes:
                self.changes = changes + 1
                del order[expired]

    def shorten(self, now: int, ttl: int) -> None:
        """Let no slot expire later than its holder's ttl from now. Looked for only where one expires later than `ttl`
        from now.
        """
        while True:
            changes = self.changes
            order = self.order
            if not order or order[-1][0] <= now + ttl:
                return
            late = {}
            order = list(order)
            for expiry, slot in order[bisect_left(order, (now + ttl + 1,)) :]:
                found = _SLOT.fullmatch(slot)
                if found and expiry > now + int(found[1]):
                    late[slot] = now + int(found[1])
            known = self.slots.copy()
            late = {slot: expiry for slot, expiry in late.items() if slot in known and known[slot] > expiry}
            if not late or self.put(late, changes):
                return

    def look(self) -> tuple[int, list[tuple[int, str]], int]:
        """`(held, order, changes)`: how many are held, and their order, as long as there are no more changes."""
        while True:
            changes = self.changes
            order = self.order
            held = len(self.slots)
            if len(order) == held:
                return held, order, changes
            # Somebody was interrupted, or is in the midst of something and will see that it has to begin again.
            mended = sorted([(expiry, slot) for slot, expiry in self.slots.copy().items()])
            if self.changes == changes:
                self.changes = changes + 1
                self.order = mended

    def _forget(self, entry: tuple[int, str], changes: int) -> None:
        """Take out of the order what is held no more, unless somebody came in: it will be missed then by `look`."""
        order = self.order
        at = bisect_left(order, entry)
        if self.changes == changes and order[at] == entry:
            del order[at]


Judged = tuple[State, dict[str, int], int, Facts, int, bool]
"""`(slots, taken, more, facts, changes, is_shortened)`: a hit that was judged but not yet spent. It takes
slots until they expire, so many more than its holder had."""


def settle(state: State | None, now: int, ttl: int) -> tuple[State, bool]:
    """The slots, without those that have expired, and with those shortened that expire too late; and whether there may
    have been some of these.
    """
    if state is None:
        return State(), False
    if state.order and state.order[0][0] <= now:
        state.drop_expired(now)
    if not state.order or state.order[-1][0] <= now + ttl:
        return state, False
    state.shorten(now, ttl)
    return state, True


def names(holder: str, cost: int) -> list[str]:
    """The slots of a holder."""
    return [f"{holder}:{number}" for number in range(1, cost + 1)]


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May the holder have its slots now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, ttl, holder = arguments
    slots, is_shortened = settle(state, now, ttl)
    while True:
        held, order, changes = slots.look()
        surplus = held + cost - most
        if slots.changes == changes:
            free_at = order[(surplus if surplus < held else held) - 1][0] if surplus > 0 < held else 0
            last = order[-1][0] if held else 0
            taken = dict.fromkeys(names(holder, cost), now + ttl)
            more = len(taken.keys() - slots.slots.keys())
            if slots.changes == changes:
                return surplus <= 0, (slots, taken, more, (held, free_at, last), changes, is_shortened)


def spend(judged: Judged) -> Written[State] | None:
    """Take the slots, once however often it is asked for. None if anything has changed since they were judged."""
    slots, taken, more, (held, _, last), changes, _ = judged
    if not taken:
        return write(slots, held, last)
    told = write(slots, held + more, last_with(slots, taken, last))
    return told if slots.put(taken, changes) or slots.slots.items() >= taken.items() else None


def last_with(slots: State, more: dict[str, int], last: int) -> int:
    """When the last slot expires, with more that are held."""
    expiry = next(iter(more.values()))
    if last > expiry:  # rare: is it somebody else's?
        last = max([at for slot, at in slots.slots.copy().items() if slot not in more], default=0)
    return max(last, expiry)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    return judged[3]


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: the slots that were shortened. Where they are kept as they are, that is done already."""
    slots, _, _, (held, _, last), _, is_shortened = judged
    return write(slots, held, last)[:2] if is_shortened else None


def give_back(state: State | None, now: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Release the holder's slots."""
    slots, _ = settle(state, now, arguments[2])
    return write(slots, *slots.drop(names(arguments[3], arguments[0])))


take = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: all slots, each until it expires in both stores."""
    merged, slots = State(), other[0].slots.copy()
    for slot, expiry in kept[0].slots.copy().items():
        slots[slot] = max(expiry, slots.get(slot, 0))
    merged.slots = slots
    merged.order = sorted((expiry, slot) for slot, expiry in slots.items())
    return merged, max(kept[1], other[1])


def renew(state: State | None, now: int, arguments: Arguments) -> tuple[bool, Written[State]]:
    """Put off the expiry of a holder's slots. False where one of them has expired, and may be another's by now."""
    cost, _, ttl, holder = arguments
    renewed = dict.fromkeys(names(holder, cost), now + ttl)
    slots, _ = settle(state, now, ttl)
    while True:
        held, order, changes = slots.look()
        known = slots.slots
        are_held = known.keys() >= renewed.keys()
        if slots.changes != changes:
            continue
        last = order[-1][0] if held else 0
        if not are_held or cost == 0:
            return are_held, write(slots, held, last)
        told = write(slots, held, last_with(slots, renewed, last))
        if slots.put(renewed, changes):
            return True, told


def write(slots: State, held: int, last: int) -> Written[State]:
    """The state as it is kept, until the last slot expires."""
    return slots if held else None, last, (held, 0, last)


def wire(arguments: Arguments) -> tuple[int | str, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """Nothing: the holder is among the arguments."""
    return ()


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()


def pack(state: State, until_us: int, unit: int) -> None:
    """As `Algorithm.pack`: nothing, since slots are changed in place."""


def unpack(packed: int, unit: int) -> Never:
    """As `Algorithm.unpack`: nothing was packed.

    :raises InvalidUse: always.
    """
    raise InvalidUse("slots are not packed: they are changed in place")


least = unpack


def dump(state: State) -> str:
    """As `Algorithm.dump`: when each slot expires, and its name, in that order."""
    slots = sorted((expiry, slot) for slot, expiry in state.slots.copy().items())
    return texts.flat(*[field for expiry, slot in slots for field in (expiry, texts.escaped(slot))])


def load(text: str) -> State:
    """As `Algorithm.load`."""
    found = texts.fields(text, "set of slots")
    expiries = texts.integers(found[::2], text, "set of slots")
    slots = [texts.plain(field) for field in found[1::2]]
    if len(expiries) != len(slots) or len(set(slots)) != len(slots):
        raise texts.unreadable(text, "set of slots")
    state = State()
    state.slots = dict(zip(slots, expiries, strict=True))
    state.order = sorted(zip(expiries, slots, strict=True))
    return state

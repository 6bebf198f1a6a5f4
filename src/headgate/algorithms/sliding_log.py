"""The sliding log: every hit of the last `period` is remembered, and their costs never add up to more than the
limit.

Exact in every interval of `period`, and the only algorithm here whose memory grows with the limit: one entry a hit.
A hit at instant s counts until just before s + period. Where the clock stepped back behind the newest entry, all
entries are shifted back by as much, as if it had stood still.

A log is changed in place, by whoever comes in: a signal handler may ask for a hit in the midst of another. So each
change is one call or one instruction, and what it is based on is looked at right before, with nothing in between at
which the interpreter lets anybody in (after a call, at a function's entry, where a loop goes back; before Python 3.12
also where a tuple is made).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import chain, pairwise
from operator import itemgetter
from typing import Final

from headgate.algorithms import Lasting, Written, not_here, texts

Arguments = tuple[int, int, int]
"""`(cost, most, period)`."""
Facts = tuple[int, int, int]
"""`(total, newest, free_at)`: what the log holds after the decision; its newest instant (0: none); when a denied
hit fits (0: it was not denied)."""
Receipt = tuple[int, int]
"""`(instant, cost)`: the entry that was added."""
Entry = tuple[int, int, int]
"""`(instant, before, after)`: a hit's instant, and the sum of all costs before and after it."""

COST_BITS: Final = 52
"""How many bits the cost has in a packed state."""
_after: Final = itemgetter(2)


class State:
    """The log itself: entries, oldest first. What it holds is the difference of two sums: so dropping the oldest is one
    call, adding one is another, and it is right after each.
    """

    __slots__ = ("entries",)

    def __init__(self, hits: Iterable[tuple[int, int]] = ()) -> None:
        """:param hits: `(instant, cost)`, oldest first."""
        self.entries: deque[Entry] = deque()
        after = 0
        for instant, cost in hits:
            before, after = after, after + cost
            self.entries.append((instant, before, after))

    def hits(self) -> list[tuple[int, int]]:
        """`(instant, cost)` of each hit, oldest first."""
        return [(instant, after - before) for instant, before, after in list(self.entries)]

    @property
    def total(self) -> int:
        """The sum of the costs."""
        entries = self.entries
        return entries[-1][2] - entries[0][1] if entries else 0


Judged = tuple[State, Entry | None, Entry, int, Facts, bool]
"""`(log, last, entry, period, facts, is_shifted)`: a hit that was judged but not yet spent. Its `entry` comes after the
`last` one. A log that was shifted is a new one, of which only this knows."""


def settle(state: State | None, now: int, period: int) -> tuple[State, bool]:
    """The log, with nothing in it that is out of view, and whether it had to be shifted."""
    if state is None:
        return State(), False
    entries = state.entries
    if entries and entries[-1][0] > now:
        return copied(state, now, period), True
    while True:
        entries = state.entries
        if not entries or entries[0][0] + period > now:
            return state, False
        entries.popleft()


def copied(state: State | None, now: int, period: int) -> State:
    """A log of one's own, shifted where the clock stepped back, with nothing in it that is out of view."""
    hits = state.hits() if state else []
    shift = max(0, hits[-1][0] - now) if hits else 0
    shifted = [(max(0, instant - shift), cost) for instant, cost in hits]
    return State(hit for hit in shifted if hit[0] + period > now)


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May a hit pass now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, period = arguments
    log, is_shifted = settle(state, now, period)
    entries = log.entries
    last = entries[-1] if entries else None
    before = 0 if last is None else last[2]
    allowed, facts = look(log, cost, most, period)
    return allowed, (log, last, (now, before, before + cost), period, facts, is_shifted)


def look(log: State, cost: int, most: int, period: int) -> tuple[bool, Facts]:
    """Does a hit fit in, and how do things stand?"""
    while True:
        entries = log.entries
        if not entries:
            return cost <= most, (0, 0, 0)
        first = entries[0]
        last = entries[-1]
        total = last[2] - first[1]
        surplus = total + cost - most
        if surplus <= 0:
            return True, (total, last[0], 0)
        if surplus > total:  # it never fits
            return False, (total, last[0], 0)
        if first[2] - first[1] >= surplus:
            return False, (total, last[0], first[0] + period)
        found = list(entries)
        if found and found[0] is first:
            return False, (total, last[0], found[bisect_left(found, first[1] + surplus, key=_after)][0] + period)


def spend(judged: Judged) -> Written[State] | None:
    """Take the cost, once however often it is asked for. None if the log has gone on since it was judged."""
    log, last, entry, period, facts, _ = judged
    now, before, after = entry
    if before == after:
        return write(log, period, facts)
    while True:
        entries = log.entries
        first = entries[0] if entries else entry
        told = log, now + period, (after - first[1], now, 0)
        if (entries[-1] if entries else None) is not last:  # somebody has spent: was it we?
            return told if entries and entries[-1] is entry else None
        if (entries[0] if entries else entry) is first and log.entries is entries:
            entries.append(entry)
            return told


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    return judged[4]


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: the log that was shifted."""
    log, _, _, period, facts, is_shifted = judged
    return write(log, period, facts)[:2] if is_shifted else None


def give_back(state: State | None, now: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Return the cost to a hit `(instant, cost)`, if it is still in view. The log is a new one."""
    cost, _, period = arguments
    hits = copied(state, now, period).hits()
    if receipt in hits:
        index = hits.index(receipt)
        rest = max(0, receipt[1] - cost)
        hits[index : index + 1] = [(receipt[0], rest)] if rest > 0 else []
    return tell(State(hits), period)


def take(state: State | None, now: int, arguments: Arguments) -> Written[State]:
    """Charge the cost, whatever the limit says. The log is a new one."""
    cost, _, period = arguments
    hits = copied(state, now, period).hits()
    return tell(State([*hits, (now, cost)] if cost > 0 else hits), period)


def tell(log: State, period: int) -> Written[State]:
    """A log of one's own as it is kept, and how things stand."""
    total = log.total
    return write(log, period, (total, log.entries[-1][0] if total else 0, 0))


def write(log: State, period: int, facts: Facts) -> Written[State]:
    """The state as it is kept, until its newest entry is out of view."""
    total, newest, _ = facts
    return (log, newest + period, facts) if total else (None, 0, facts)


renew = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: all hits. Those alike are taken for the same, as often as one of the logs has them."""
    hits = Counter(kept[0].hits()) | Counter(other[0].hits())
    return State(sorted(hits.elements())), max(kept[1], other[1])


FastPath = Callable[[State | None, int, int], tuple[bool, State, int, Facts] | None]
"""By state, now and a cost from 1 to the capacity: may it pass, and the state, its `expires_at` and the facts as
`spend` tells them; of what may not pass, the facts as `keep` tells them. None, with nothing done, is for `judge` to see
to."""


def fast_path(arguments: Arguments) -> FastPath:
    """Makes what does `judge` with `spend` or `keep` in one, as long as time has not gone back."""
    _, most, period = arguments

    def hit(log: State | None, now: int, cost: int) -> tuple[bool, State, int, Facts] | None:
        if log is None:
            return True, State([(now, cost)]), now + period, (cost, now, 0)
        entries, expired = log.entries, now - period
        if not entries:  # who looked at it with a shorter period has left nothing of it
            return None
        last = entries[-1]
        if not expired < last[0] <= now:
            return None
        before = last[2]
        entry = (now, before, before + cost)
        while True:
            try:
                first = entries[0]
            except IndexError:  # all was dropped by somebody who came in meanwhile
                return None
            if first[0] <= expired:
                entries.popleft()
                continue
            if entries[-1] is last and log.entries is entries:
                total = entry[2] - first[1]
                if total <= most:
                    entries.append(entry)
                    return True, log, now + period, (total, now, 0)
                if first[2] - first[1] >= total - most:
                    return False, log, 0, (total - cost, last[0], first[0] + period)
                is_allowed, facts = look(log, cost, most, period)
                if not is_allowed:
                    return False, log, 0, facts
            entries = log.entries  # somebody came in meanwhile, and time does not go back
            if entries:
                last = entries[-1]
                now = max(now, last[0])
                expired = now - period
                entry = (now, last[2], last[2] + cost)

    return hit


def pack(state: State, until_us: int, period: int) -> None:
    """As `Algorithm.pack`: nothing, since somebody may be about to add to a log. Who makes one packs it."""


def unpack(packed: int, period: int) -> tuple[State, int]:
    """As `Algorithm.unpack`: a log of one hit, of which the last `COST_BITS` bits are the cost."""
    instant = packed >> COST_BITS
    return State([(instant, packed & (1 << COST_BITS) - 1)]), instant + period


def least(now: int, period: int) -> int:
    """As `Algorithm.least`."""
    return now - period + 1 << COST_BITS


def wire(arguments: Arguments) -> tuple[int, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """The entry that was added."""
    return receipt


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()


def dump(state: State) -> str:
    """As `Algorithm.dump`: the instant and the cost of each hit, oldest first."""
    return texts.flat(*chain.from_iterable(state.hits()))


def load(text: str) -> State:
    """As `Algorithm.load`."""
    found = texts.numbers(text, "sliding log")
    instants, costs = found[::2], found[1::2]
    if len(instants) != len(costs) or any(cost < 1 for cost in costs) or any(a > b for a, b in pairwise(instants)):
        raise texts.unreadable(text, "sliding log")
    return State(zip(instants, costs, strict=True))

"""The sliding log: every hit of the last `period` is remembered, and their costs never add up to more than the
limit.

Exact in every interval of `period`, and the only algorithm here whose memory grows with the limit: one entry a hit.
A hit at instant s counts until just before s + period. Time does not go back in a log: a `now` before the newest
entry counts as that entry's instant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from headgate.algorithms import Straight

Arguments = tuple[int, int, int]
"""`(cost, most, period)`."""
Facts = tuple[int, int, int]
"""`(total, newest, free_at)`: what the log holds after the decision; its newest instant (0: none); when a denied
hit fits (0: it was not denied)."""


class State:
    """The log itself: `(instant, cost)`, oldest first, and the sum of the costs. It is changed in place: a state
    belongs to one store. The sum is changed first, and then the entries by one call: the interpreter lets signals in
    (and other threads, one of which may fork) after calls, and finds both changed.
    """

    __slots__ = ("entries", "total")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self.entries = deque(entries)
        self.total = sum(cost for _, cost in self.entries)


Judged = tuple[State, int, int, int, int]
"""`(log, now, cost, period, free_at)`: a hit that was judged but not yet spent."""


def settle(state: State | None, now: int, period: int) -> tuple[State, int]:
    """Drop what is out of view. Returns the log, and the instant that counts as now."""
    if state is None:
        return State(), now
    entries = state.entries
    if entries:
        now = max(now, entries[-1][0])
    while entries and entries[0][0] + period <= now:
        state.total -= entries[0][1]
        entries.popleft()
    return state, now


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May a hit pass now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, period = arguments
    log, now = settle(state, now, period)
    allowed = log.total + cost <= most
    free_at = 0 if allowed else _free_at(log, cost, most, period)
    return allowed, (log, now, cost, period, free_at)


def _free_at(log: State, cost: int, most: int, period: int) -> int:
    left = log.total
    for instant, spent in log.entries:
        left -= spent
        if left + cost <= most:
            return instant + period
    return 0


def spend(judged: Judged) -> tuple[State | None, int, Facts]:
    """Take the cost."""
    log, now, cost, period, free_at = judged
    if cost > 0:
        log.total += cost
        log.entries.append((now, cost))
    return write(log, period, free_at)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    log, _, _, period, free_at = judged
    return write(log, period, free_at)[2]


def give_back(
    state: State | None, now: int, arguments: Arguments, receipt: tuple[int, int]
) -> tuple[State | None, int, Facts]:
    """Return the cost to an entry `(instant, cost)`, if it is still in view."""
    cost, _, period = arguments
    log, now = settle(state, now, period)
    if receipt in log.entries:
        index = log.entries.index(receipt)
        rest = max(0, receipt[1] - cost)
        log.total -= receipt[1] - rest
        if rest > 0:
            log.entries[index] = (receipt[0], rest)
        else:
            del log.entries[index]
    return write(log, period, 0)


def take(state: State | None, now: int, arguments: Arguments) -> tuple[State | None, int, Facts]:
    """Charge the cost, whatever the limit says."""
    cost, _, period = arguments
    log, now = settle(state, now, period)
    return spend((log, now, cost, period, 0))


def write(log: State, period: int, free_at: int) -> tuple[State | None, int, Facts]:
    """The state as it is kept, until its newest entry is out of view."""
    if not log.entries:
        return None, 0, (0, 0, free_at)
    newest = log.entries[-1][0]
    return log, newest + period, (log.total, newest, free_at)


def straight(arguments: Arguments) -> Straight:
    """As `Algorithm.straight`, as long as time has not gone back."""
    _, most, period = arguments

    def hit(log: State, now: int, cost: int) -> tuple[bool, State, int, Facts] | None:
        entries = log.entries
        # Who looked at it with a shorter period may have left nothing of it.
        if not entries or not (newest := entries[-1][0]) <= now < newest + period:
            return None
        while entries[0][0] + period <= now:
            log.total -= entries[0][1]
            entries.popleft()
        total = log.total + cost
        if total > most:
            return False, log, 0, (log.total, newest, _free_at(log, cost, most, period))
        log.total = total
        entries.append((now, cost))
        return True, log, now + period, (total, now, 0)

    return hit


def wire(arguments: Arguments) -> tuple[int, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: tuple[int, int]) -> tuple[int, ...]:
    """The entry that was added."""
    return receipt


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()

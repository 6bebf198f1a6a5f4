"""The fixed window: a count that starts afresh at each boundary. A denial never raises the count.

Windows are aligned to the epoch (`period`) or come from a table of boundaries that the caller computed, such as
local midnights. The table holds a few windows around the caller's idea of now; a `now` outside it makes `locate`
answer `None`, and the caller has to come back with a fresh table. Across a boundary, twice the limit may pass in no
time: that is what a fixed window is.

Where the clock stepped back behind the window that is stored, its count stays in force for a window's whole length from
now, as a window of its own, which begins off the grid: were it over at our window's end, a clock that trembles around
that end would open a fresh count each time. So does what another grid of this limit's began (it had shorter windows
before), from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.algorithms import SLACK_US, Lasting, Written, not_here, texts

Arguments = tuple[int, ...]
"""`(cost, most, period)`, or `(cost, most, 0, boundary, boundary, boundary, boundary)` in rising order."""
Facts = tuple[int, int]
"""`(start, spent)`: the window in force, by its first microsecond, and what is spent in it after the decision."""
Receipt = int
"""The start of the window that was charged."""

BOUNDARIES = 4
"""How many boundaries a table holds: three windows, of which the middle one should be now's."""
SPENT_BITS = 52
"""How many bits a count has in a packed state."""

State = tuple[int, int]
"""`(start, spent)`: what a window remembers, which is its first microsecond, and what has been spent in it."""
Judged = tuple[int, int, int, int, bool]
"""`(start, end, spent, cost, is_carried)`: a hit that was judged but not yet spent."""


def locate(now: int, arguments: Arguments) -> tuple[int, int] | None:
    """The window that `now` is in, or `None` where the table does not say."""
    period = arguments[2]
    if period > 0:
        start = now - now % period
        return start, start + period
    boundaries = arguments[3:]
    for index in range(1, BOUNDARIES):
        if boundaries[index - 1] <= now < boundaries[index]:
            return boundaries[index - 1], boundaries[index]
    return None


def settle(state: State | None, now: int, arguments: Arguments) -> tuple[int, int, int, bool]:
    """The window in force, as `(start, end, spent)`, and whether the clock has stepped back behind what was stored."""
    window = locate(now, arguments)
    if window is None:
        raise LookupError(now)
    start, end = window
    if state is None:
        return start, end, 0, False
    known, spent = state
    if known == start:
        return start, end, spent, False
    if known > now:  # the clock stepped back
        return now, now + (end - start), spent, True
    own = locate(known, arguments)
    if own is None or known == own[0] or known + (own[1] - own[0]) <= now:
        return start, end, 0, False
    return known, known + (own[1] - own[0]), spent, False


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May a hit pass now? A place in a later window cannot be reserved, so `max_wait` does not count."""
    cost, most = arguments[0], arguments[1]
    start, end, spent, is_carried = settle(state, now, arguments)
    return spent + cost <= most, (start, end, spent, cost, is_carried)


def spend(judged: Judged) -> Written[State]:
    """Take the cost."""
    start, end, spent, cost, _ = judged
    return write(start, end, spent + cost)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    return judged[0], judged[2]


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: the count that stays in force from now."""
    start, end, spent, _, is_carried = judged
    return write(start, end, spent)[:2] if is_carried else None


def give_back(state: State | None, now: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Return the cost to the window that begins at `receipt`, if that is still the one in force."""
    start, end, spent, is_carried = settle(state, now, arguments)
    if start == receipt and not is_carried:
        spent = max(0, spent - arguments[0])
    return write(start, end, spent)


def take(state: State | None, now: int, arguments: Arguments) -> Written[State]:
    """Charge the cost to the window in force, whatever the limit says."""
    start, end, spent, _ = settle(state, now, arguments)
    return write(start, end, spent + arguments[0])


def write(start: int, end: int, spent: int) -> Written[State]:
    """The state as it is kept, until the window ends."""
    if spent == 0:
        return None, 0, (start, 0)
    state = (start, spent)
    return state, end, state


renew = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: the greater count. Of windows that overlap (the limit had another period before, or a clock
    stepped back), the later one has it.
    """
    (earlier, until), (later, later_until) = sorted((kept, other))
    if until < later[0] + SLACK_US:
        return later, later_until
    return (later[0], max(earlier[1], later[1])), max(until, later_until)


def pack(state: State, until_us: int, period: int) -> int | None:
    """As `Algorithm.pack`: the number of the window, and the count in the last `SPENT_BITS` bits."""
    start, spent = state
    if start % period == 0 and until_us == start + period and 0 < spent < 1 << SPENT_BITS:
        return (start // period << SPENT_BITS) + spent
    return None


def unpack(packed: int, period: int) -> tuple[State, int]:
    """As `Algorithm.unpack`."""
    start = (packed >> SPENT_BITS) * period
    return (start, packed & (1 << SPENT_BITS) - 1), start + period


def least(now: int, period: int) -> int:
    """As `Algorithm.least`."""
    return now // period << SPENT_BITS


def wire(arguments: Arguments) -> tuple[int, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """The start of the window that was charged."""
    return (receipt,)


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take()


def dump(state: State) -> str:
    """As `Algorithm.dump`: the start of the window, and what is spent."""
    return texts.flat(*state)


def load(text: str) -> State:
    """As `Algorithm.load`."""
    match texts.numbers(text, "fixed window"):
        case [start, spent] if spent >= 0:
            return start, spent
    raise texts.unreadable(text, "fixed window")

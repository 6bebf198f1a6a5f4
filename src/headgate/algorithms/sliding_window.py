"""The sliding window over two counters: this window's, and the previous one's by the share still in view.

The previous window is taken to have been spent evenly, and its share is rounded up, against the caller. In every
interval of length t, at most `limit + limit / period * t` tokens pass. Cloudflare describes the idea in "How we
built rate limiting capable of scaling to millions of domains" (2017); there, denials count, here they do not.

Where the clock stepped back, both counts are carried into the window that now is in, which cannot tell what of them is
out of view by now.

The share is `left / steps`, with `left` the steps that the previous window is still in view for. A step is one
microsecond, or as many as it takes for `limit * steps` to be exact in a script.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.algorithms import SLACK_US, Lasting, Written, not_here, texts

Arguments = tuple[int, int, int, int, int]
"""`(cost, most, period, step, steps)`."""
Facts = tuple[int, int, int]
"""`(start, current, previous)` after the decision."""
Receipt = int
"""The start of the window that was charged."""

SPENT_BITS = 52
"""How many bits each count has in a packed state."""

State = tuple[int, int, int]
"""`(start, current, previous)`: what the two windows remember, which is the current one's first microsecond, and both
counts."""
Judged = tuple[int, int, int, int, int, bool]
"""`(start, current, previous, cost, period, is_carried)`: a hit that was judged but not yet spent."""


def settle(state: State | None, now: int, arguments: Arguments) -> tuple[int, int, int, bool]:
    """The windows as of `now`, and whether the counts were carried into them from later ones. A window that has begun
    stays, though it is on no grid of ours (the limit had another period before).
    """
    period = arguments[2]
    start = now - now % period
    if state is None or state[0] < start - period:
        return start, 0, 0, False
    known, current, previous = state
    if known < start:
        return start, 0, current, False
    if known > now:  # the clock stepped back
        return start, current + previous, 0, True
    return known, current, previous, False


def in_view(previous: int, start: int, now: int, arguments: Arguments) -> int:
    """The weight that the previous window still has at `now`, rounded up."""
    _, _, period, step, steps = arguments
    left = min(steps, max(0, -(-(start + period - now) // step)))
    previous = min(previous, 2**52 // steps)  # only a limit that was far higher before comes near this
    return -(-(previous * left) // steps)


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """May a hit pass now? A later place cannot be reserved, so `max_wait` does not count."""
    cost, most, period, _, _ = arguments
    start, current, previous, is_carried = settle(state, now, arguments)
    used = current + in_view(previous, start, now, arguments)
    return used + cost <= most, (start, current, previous, cost, period, is_carried)


def spend(judged: Judged) -> Written[State]:
    """Take the cost."""
    start, current, previous, cost, period, _ = judged
    return write(start, current + cost, previous, period)


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    return judged[:3]


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: the counts that were carried into these windows."""
    start, current, previous, _, period, is_carried = judged
    return write(start, current, previous, period)[:2] if is_carried else None


def give_back(state: State | None, now: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Return the cost to the window that begins at `receipt`, if it is still in view."""
    cost, _, period, _, _ = arguments
    start, current, previous, is_carried = settle(state, now, arguments)
    if is_carried:
        return write(start, current, previous, period)
    if start == receipt:
        current = max(0, current - cost)
    elif start - period == receipt:
        previous = max(0, previous - cost)
    return write(start, current, previous, period)


def take(state: State | None, now: int, arguments: Arguments) -> Written[State]:
    """Charge the cost to the current window, whatever the limit says."""
    cost, _, period, _, _ = arguments
    start, current, previous, _ = settle(state, now, arguments)
    return write(start, current + cost, previous, period)


def write(start: int, current: int, previous: int, period: int) -> Written[State]:
    """The state as it is kept: until the current window is out of view, or the previous one where that is all there
    is.
    """
    facts = (start, current, previous)
    if current > 0:
        return facts, start + 2 * period, facts
    if previous > 0:
        return facts, start + period, facts
    return None, 0, facts


renew = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: the greater counts. Where one store's current window is the other's previous one, it counts
    as that.
    """
    (earlier, until), (later, later_until) = sorted((kept, other))
    start, current, previous = later
    if until < start + SLACK_US:
        return later, later_until
    is_before = earlier[1] > 0 and (earlier[0] + until) // 2 < start + SLACK_US  # it is in view for two periods
    before = (earlier[1],) if is_before else earlier[2:]
    within = 0 if is_before else earlier[1]
    return (start, max(current, within), max(previous, *before)), max(until, later_until)


def pack(state: State, until_us: int, period: int) -> int | None:
    """As `Algorithm.pack`: the window's number and both counts, these in `SPENT_BITS` bits each."""
    start, current, previous = state
    if start % period == 0 and until_us == start + 2 * period and max(current, previous) < 1 << SPENT_BITS:
        return (((start // period) << SPENT_BITS) + current << SPENT_BITS) + previous
    return None


def unpack(packed: int, period: int) -> tuple[State, int]:
    """As `Algorithm.unpack`."""
    start = (packed >> 2 * SPENT_BITS) * period
    counts = (1 << SPENT_BITS) - 1
    return (start, packed >> SPENT_BITS & counts, packed & counts), start + 2 * period


def least(now: int, period: int) -> int:
    """As `Algorithm.least`."""
    return now // period - 1 << 2 * SPENT_BITS


def wire(arguments: Arguments) -> tuple[int, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """The start of the window that was charged."""
    return (receipt,)


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()


def dump(state: State) -> str:
    """As `Algorithm.dump`: the start of the current window, and both counts."""
    return texts.flat(*state)


def load(text: str) -> State:
    """As `Algorithm.load`."""
    match texts.numbers(text, "sliding window"):
        case [start, current, previous] if current >= 0 and previous >= 0:
            return start, current, previous
    raise texts.unreadable(text, "sliding window")

"""The penalty: so many denials within a period, and the key is blocked for a time.

A penalty takes nothing of what passes. It watches the hits that stand before it in its group, back to the penalty
before: where one of them denies a group that is to be spent, the penalty counts one denial (`count`). Each denial is
remembered by its instant, and one at instant s counts until just before s + period. With the last one that fits in,
the block begins, and the instants are forgotten: when the block is over, the count starts afresh. A group that a block
denies counts nowhere, so a block is never prolonged.

Where the clock stepped back, a block lasts for its whole length from now, and the instants are shifted back, as if it
had stood still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

from headgate.algorithms import Lasting, Written, not_here, texts

Arguments = tuple[int, int, int, int]
"""`(cost, denials, period, block)`. A cost of 0 asks only, and counts nowhere."""
Facts = tuple[int, int, int]
"""`(ends, counted, newest)`: when the block is over (0: there is none); how many denials count; the instant of the
newest of them (0: there are none)."""
Receipt: TypeAlias = None
"""There is none: what passes takes nothing."""

State = tuple[int, tuple[int, ...]]
"""`(ends, instants)`: when the block is over, or 0 and the instants of the denials that count, oldest first."""
Judged = tuple[int, int, tuple[int, ...], Arguments, bool]
"""`(now, ends, instants, arguments, is_changed)`: how things stand, and whether that differs from what is stored."""


def settle(state: State | None, now: int, period: int, block: int) -> tuple[int, tuple[int, ...], bool]:
    """The block or the denials in view, and whether the clock was found to have stepped back."""
    if state is None:
        return 0, (), False
    ends, instants = state
    if ends > 0:
        if ends - now > block:
            return now + block, (), True
        return (ends, (), False) if ends > now else (0, (), False)
    shift = max(0, instants[-1] - now)
    shifted = [max(0, instant - shift) for instant in instants]
    return 0, tuple([instant for instant in shifted if instant + period > now]), shift > 0


def judge(state: State | None, now: int, arguments: Arguments, max_wait: int) -> tuple[bool, Judged]:
    """Is the key not blocked? The end of a block cannot be reserved, so `max_wait` does not count."""
    _, _, period, block = arguments
    ends, instants, is_shifted = settle(state, now, period, block)
    return ends == 0, (now, ends, instants, arguments, is_shifted)


def count(judged: Judged) -> Judged:
    """The same, with one denial more, and with a block where that was the last that fits in."""
    now, ends, instants, arguments, _ = judged
    cost, denials, _, block = arguments
    if ends > 0 or cost == 0:
        return judged
    instants = (*instants, now)
    if len(instants) >= denials:
        ends, instants = now + block, ()
    return now, ends, instants, arguments, True


def spend(judged: Judged) -> Written[State]:
    """Take nothing."""
    return write(judged)


def keep(judged: Judged) -> Facts:
    """As `Algorithm.keep`."""
    _, ends, instants, _, _ = judged
    return ends, len(instants), instants[-1] if instants else 0


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: what was shifted, and what was counted."""
    return write(judged)[:2] if judged[4] else None


def give_back(state: State | None, now: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Return nothing, as nothing was taken."""
    return write(judge(state, now, arguments, 0)[1])


def take(state: State | None, now: int, arguments: Arguments) -> Written[State]:
    """Count a denial of hits that were judged by themselves."""
    return write(count(judge(state, now, arguments, 0)[1]))


def write(judged: Judged) -> Written[State]:
    """The state as it is kept, until the block is over or the newest denial is out of view."""
    _, ends, instants, (_, _, period, _), _ = judged
    facts = keep(judged)
    if ends > 0:
        return (ends, ()), ends, facts
    if instants:
        return (0, instants), instants[-1] + period, facts
    return None, 0, facts


renew = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: the block that ends later, where there is one, and all denials where there is none. If that
    are more than fit in, the next one begins the block.
    """
    ends = max(kept[0][0], other[0][0])
    if ends > 0:
        return (ends, ()), ends
    instants = Counter(kept[0][1]) | Counter(other[0][1])
    return (0, tuple(sorted(instants.elements()))), max(kept[1], other[1])


def pack(state: State, until_us: int, unit: int) -> int | None:
    """As `Algorithm.pack`: the end of a block."""
    return state[0] or None


def unpack(packed: int, unit: int) -> tuple[State, int]:
    """As `Algorithm.unpack`."""
    return (packed, ()), packed


def least(now: int, unit: int) -> int:
    """As `Algorithm.least`."""
    return now


def wire(arguments: Arguments) -> tuple[int, ...]:
    """The arguments as they are."""
    return arguments


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """Nothing."""
    return ()


def read(take: Callable[[], int], now: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply."""
    return take(), take(), take()


def dump(state: State) -> str:
    """As `Algorithm.dump`: the end of the block, or 0 and the instants."""
    return texts.flat(state[0], *state[1])


def load(text: str) -> State:
    """As `Algorithm.load`."""
    match texts.numbers(text, "penalty"):
        case [ends] if ends > 0:
            return ends, ()
        case [0, *instants] if instants and instants[0] >= 0 and all(a <= b for a, b in pairwise(instants)):
            return 0, tuple(instants)
    raise texts.unreadable(text, "penalty")

"""The token bucket, as the generic cell rate algorithm (GCRA) with an exact remainder.

GCRA (ITU-T I.371, "virtual scheduling") keeps one number per bucket: the theoretical arrival time `tat`, the
instant at which everything spent so far will have been earned again. What lies between now and the `tat`
is the debt; a hit may pass while the debt stays within the `tolerance`, the time it takes to earn a full bucket.

One token is `period / rate` microseconds, a rational. Here, time is therefore counted in *parts* of `1 / rate`
microsecond, in Python's big integers: a token is `period` parts, whatever the rate. The script beside this file
writes the same number as a pair `(q, r)`: `q` whole microseconds and `r` parts.

**Waiting.** With `max_wait`, a hit may be admitted into the future: it takes its place behind the others and learns
when its turn comes. Someone *is waiting* while the `tat` is beyond `now + tolerance`.

**Giving back.** What a hit took is owed to nobody any more only as far as it has not been earned again: at most
`place - now`, `place` being the `tat` just after that hit. (Giving back more would let through, in some interval,
more than `burst + rate * t`.) While others are waiting, their turns stand and the `tat` cannot simply move back.
The place then becomes a *vacancy*: the next hit that fits takes it, at its turn. Vacancies fall back into the
bucket when they are the last in the queue, or when nobody is waiting any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headgate.algorithms import MAX_DEBT_US

Arguments = tuple[int, int, int]
"""`(increment, tolerance, rate)`: the cost and the capacity in parts, and the parts per microsecond."""
Facts = tuple[int, int, int]
"""`(debt, wait_us, place)`: the debt after the decision, in parts; how long until the hit may pass (0: now); where
the hit stands in the queue, in parts since the epoch."""
Vacancy = tuple[int, int]
"""`(place, amount)`: a place given back while others were waiting, and what it holds, both in parts."""

MAX_VACANCIES = 16
"""More vacancies than these are not remembered; the smallest is forgotten, which admits less, never more."""


State = tuple[int, int, tuple[Vacancy, ...]]
"""`(tat, rate, vacancies)`: what a bucket remembers. The `tat` is in parts of `1 / rate` microsecond, the vacancies
are by place."""


class Judged(NamedTuple):
    """A hit that was judged but not yet spent."""

    now: int
    tat: int
    vacancies: tuple[Vacancy, ...]
    increment: int
    rate: int
    wait_us: int
    taken: int
    """The index of the vacancy to take, or -1 for a place of its own."""


def settle(state: State | None, now: int, tolerance: int, rate: int) -> tuple[int, tuple[Vacancy, ...]]:
    """Bring the state to `rate` and `now` (in parts), and let vacancies fall back into the bucket."""
    if state is None:
        return now, ()
    tat, known, vacancies = state
    if known != rate:  # other parts: round to whole microseconds, against the caller
        tat = -(-tat // known) * rate
        vacancies = tuple((place // known * rate, amount // known * rate) for place, amount in vacancies)
    if not vacancies:
        return tat, vacancies
    left = [vacancy for vacancy in vacancies if vacancy[0] > now and vacancy[1] > 0]
    while left and left[-1][0] == tat:  # the last in the queue: the queue just gets shorter
        place, amount = left.pop()
        tat -= min(amount, place - now)
    if tat <= now + tolerance:  # nobody is waiting
        for place, amount in left:
            tat -= min(amount, place - now)
        left = []
    return tat, tuple(left)


def judge(state: State | None, now_us: int, arguments: Arguments, max_wait_us: int) -> tuple[bool, Judged]:
    """May a hit pass now, or within `max_wait_us`?"""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, vacancies = settle(state, now, tolerance, rate)
    debt = max(0, tat - now)
    new_debt = debt + increment
    wait_us = -(-(new_debt - tolerance) // rate) if new_debt > tolerance else 0
    taken = -1
    if wait_us > 0:
        for index, (place, amount) in enumerate(vacancies):
            turn_us = max(0, -(-(place - tolerance - now) // rate))
            if turn_us < wait_us and min(amount, place - now - turn_us * rate) >= increment:
                wait_us = turn_us
                taken = index
                break
    return wait_us <= max_wait_us, Judged(now, tat, vacancies, increment, rate, wait_us, taken)


def spend(judged: Judged) -> tuple[State | None, int, Facts]:
    """Take the cost."""
    now, tat, vacancies, increment, rate, wait_us, taken = judged
    if taken >= 0:
        place, amount = vacancies[taken]
        rest = ((place - increment, amount - increment),) if amount > increment else ()
        vacancies = vacancies[:taken] + rest + vacancies[taken + 1 :]
    else:
        tat = place = max(tat, now) + increment
    return write(tat, rate, vacancies, now, (max(0, tat - now), wait_us, place))


def keep(judged: Judged) -> Facts:
    """Leave everything as it is, and say how it is."""
    now, tat, _, _, _, wait_us, _ = judged
    return max(0, tat - now), wait_us, max(tat, now)


def give_back(state: State | None, now_us: int, arguments: Arguments, place: int) -> tuple[State | None, int, Facts]:
    """Return the `increment` that a hit with this `place` took, as far as it has not been earned again."""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, vacancies = settle(state, now, tolerance, rate)
    if place > now and tat > now and increment > 0:
        place = min(place, tat)
        merged = dict(vacancies)
        merged[place] = merged.get(place, 0) + increment
        if len(merged) > MAX_VACANCIES:
            del merged[min(merged, key=lambda at: (merged[at], at))]
        tat, vacancies = settle((tat, rate, tuple(sorted(merged.items()))), now, tolerance, rate)
    return write(tat, rate, vacancies, now, (max(0, tat - now), 0, max(tat, now)))


def take(state: State | None, now_us: int, arguments: Arguments) -> tuple[State | None, int, Facts]:
    """Charge the `increment` whatever the limit says; the debt saturates at 71 years."""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, vacancies = settle(state, now, tolerance, rate)
    tat = min(max(tat, now) + increment, now + MAX_DEBT_US * rate)
    return write(tat, rate, vacancies, now, (max(0, tat - now), 0, tat))


def write(
    tat: int, rate: int, vacancies: tuple[Vacancy, ...], now: int, facts: Facts
) -> tuple[State | None, int, Facts]:
    """The state as it is kept, with the first instant (in whole microseconds) at which it says nothing any more."""
    if tat <= now:
        return None, 0, facts
    return (tat, rate, vacancies), -(-tat // rate), facts


def wire(arguments: Arguments) -> tuple[int, ...]:
    """`increment` and `tolerance` as pairs, and the `rate`."""
    increment, tolerance, rate = arguments
    return *divmod(increment, rate), *divmod(tolerance, rate), rate


def wire_receipt(arguments: Arguments, place: int) -> tuple[int, ...]:
    """The place as a pair."""
    return divmod(place, arguments[2])


def read(take: Callable[[], int], now_us: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply: debt as a pair, wait, and the place where it is not the debt's end."""
    rate = arguments[2]
    debt = take() * rate
    debt += take()
    wait_us = take()
    if wait_us < 0:  # a vacancy was taken: its place follows
        place = take() * rate
        return debt, -wait_us - 1, place + take()
    return debt, wait_us, now_us * rate + debt

"""The token bucket, as the generic cell rate algorithm (GCRA) with an exact remainder.

GCRA (ITU-T I.371, "virtual scheduling") keeps one number per bucket: the theoretical arrival time `tat`, the
instant at which everything spent so far will have been earned again. What lies between now and the `tat`
is the debt; a hit may pass while the debt stays within the `tolerance`, the time it takes to earn a full bucket.

One token is `period / rate` microseconds, a rational. Here, time is therefore counted in *parts* of `1 / rate`
microsecond, in Python's big integers: a token is `period` parts, whatever the rate. The script beside this file
writes the same number as a pair `(q, r)`: `q` whole microseconds and `r` parts.

**Waiting.** With `max_wait`, a hit may be admitted into the future: it takes its place behind the others and learns
when its turn comes. Someone *is waiting* while the `tat` is beyond `now + tolerance`.

**Giving back.** What a hit took is owed to nobody any more only as far as it has not been earned again. `place`
being the `tat` just after that hit, that is at most `place - now`, less what other hits have given back since
(`credited`). More than that would let through, in some interval, more than `burst + rate * t`.

- The last in the queue just leaves it: the `tat` goes back.
- A place further ahead, whose turn has not come, is given back whole and becomes a *vacancy*: the next hit that
  fits takes it, with its turn. When everyone behind it has left too, it falls back into the bucket; when its turn
  passes, it is lost.
- A hit whose turn has come pays back what is owed, unless somebody is waiting: waiters have been told their turns
  by the `tat` as it was.
- Where tokens are leased (see lease.py), a hit whose turn has come pays back only as the last: others may hold leases
  behind it, which say until when each of their tokens is good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headgate.algorithms import MAX_DEBT_US

Arguments = tuple[int, int, int]
"""`(increment, tolerance, rate)`: the cost and the capacity in parts, and the parts per microsecond."""
Facts = tuple[int, int, int, int]
"""`(debt, wait_us, place, credited)`: the debt after the decision, in parts; how long until the hit may pass (0:
now); where the hit stands in the queue, in parts since the epoch; the bucket's `credited` at that time. The last
two are the hit's receipt."""
Receipt = tuple[int, int, bool]
"""`(place, credited, only_as_last)`: of an earlier hit; and, once its turn has come, may its tokens come back only if
nobody came after it?"""
Vacancy = tuple[int, int]
"""`(place, amount)`: a place given back while others were waiting, and what it holds, both in parts."""

MAX_VACANCIES = 16
"""More vacancies than these are not remembered; the smallest is forgotten, which admits less, never more."""


State = tuple[int, int, tuple[Vacancy, ...], int, int]
"""`(tat, rate, vacancies, credited, limit_of_credit)`: what a bucket remembers. The `tat` is in parts of `1 / rate`
microsecond, the vacancies are by place. `credited` is how much has been given back by others than the last, in
whole microseconds. It is kept while a hit from before may still give something back: until the bucket is empty, and
the instant `limit_of_credit` has passed, by which it would have been empty without any giving back."""


class Judged(NamedTuple):
    """A hit that was judged but not yet spent."""

    now: int
    settled: State
    increment: int
    wait_us: int
    taken: int
    """The index of the vacancy to take, or -1 for a place of its own."""


def settle(state: State | None, now_us: int, tolerance: int, rate: int) -> State:
    """Bring the state to `rate` and `now_us`: vacancies whose turn has passed are lost."""
    if state is None:
        return now_us * rate, rate, (), 0, 0
    tat, known, vacancies, credited, limit_of_credit = state
    if known != rate:  # other parts: round to whole microseconds, against the caller
        tat = -(-tat // known) * rate
        vacancies = tuple((-(-place // known) * rate, amount // known * rate) for place, amount in vacancies)
    if limit_of_credit <= now_us and tat <= now_us * rate:
        credited = limit_of_credit = 0
    if vacancies:
        vacancies = tuple(vacancy for vacancy in vacancies if vacancy[0] - tolerance > (now_us - 1) * rate)
    return tat, rate, vacancies, credited, limit_of_credit


def judge(state: State | None, now_us: int, arguments: Arguments, max_wait_us: int) -> tuple[bool, Judged]:
    """May a hit pass now, or within `max_wait_us`?"""
    increment, tolerance, rate = arguments
    now = now_us * rate
    settled = settle(state, now_us, tolerance, rate)
    new_debt = max(0, settled[0] - now) + increment
    wait_us = -(-(new_debt - tolerance) // rate) if new_debt > tolerance else 0
    taken = -1
    for index, (place, amount) in enumerate(settled[2]):
        turn_us = -(-(place - tolerance - now) // rate)
        if turn_us < wait_us and amount >= increment:
            wait_us = turn_us
            taken = index
            break
    return wait_us <= max_wait_us, Judged(now, settled, increment, wait_us, taken)


def spend(judged: Judged) -> tuple[State | None, int, Facts]:
    """Take the cost."""
    now, (tat, rate, vacancies, credited, limit_of_credit), increment, wait_us, taken = judged
    if taken >= 0:
        place = vacancies[taken][0]
        vacancies = vacancies[:taken] + vacancies[taken + 1 :]
    else:
        tat = place = max(tat, now + wait_us * rate) + increment  # a turn is a whole microsecond, and counts as such
    return write((tat, rate, vacancies, credited, limit_of_credit), now, (max(0, tat - now), wait_us, place, credited))


def keep(judged: Judged) -> Facts:
    """Take nothing."""
    now, (tat, _, _, credited, _), _, wait_us, _ = judged
    return max(0, tat - now), wait_us, max(tat, now), credited


def plain_facts(tat: int, now_us: int, arguments: Arguments, *, is_allowed: bool) -> Facts:
    """The facts of a hit that asked to go now, at a bucket to which nothing was given back; the `tat` is the latest."""
    increment, tolerance, rate = arguments
    debt = tat - now_us * rate
    return debt, 0 if is_allowed else -(-(debt + increment - tolerance) // rate), tat, 0


def repaired(judged: object) -> None:
    """Nothing."""


def give_back(
    state: State | None, now_us: int, arguments: Arguments, receipt: Receipt
) -> tuple[State | None, int, Facts]:
    """Return the `increment` that a hit with this receipt took, as far as it has not been earned again."""
    increment, tolerance, rate = arguments
    place, credited_before, only_as_last = receipt
    now = now_us * rate
    tat, _, vacancies, credited, limit_of_credit = settle(state, now_us, tolerance, rate)
    owed = min(increment, place - now - max(0, credited - credited_before) * rate)
    if place == tat and credited == credited_before:  # the last
        tat -= max(0, owed)
        left = list(vacancies)
        while left and left[-1][0] == tat:  # and now those before it
            tat -= left.pop()[1]
        vacancies = tuple(left)
    elif place - tolerance > now:  # its turn has not come
        merged = dict(vacancies)
        merged[place] = merged.get(place, 0) + increment
        if len(merged) > MAX_VACANCIES:
            del merged[min(merged, key=lambda at: (merged[at], at))]
        vacancies = tuple(sorted(merged.items()))
    elif not only_as_last and tat <= now + tolerance and owed > 0:  # nobody is waiting
        limit_of_credit = max(limit_of_credit, -(-tat // rate))
        credited += -(-owed // rate)
        tat -= owed
    return write(
        (tat, rate, vacancies, credited, limit_of_credit), now, (max(0, tat - now), 0, max(tat, now), credited)
    )


def take(state: State | None, now_us: int, arguments: Arguments) -> tuple[State | None, int, Facts]:
    """Charge the `increment` whatever the limit says; the debt saturates at 71 years."""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, _, vacancies, credited, limit_of_credit = settle(state, now_us, tolerance, rate)
    tat = min(max(tat, now) + increment, now + MAX_DEBT_US * rate)
    return write((tat, rate, vacancies, credited, limit_of_credit), now, (max(0, tat - now), 0, tat, credited))


def write(state: State, now: int, facts: Facts) -> tuple[State | None, int, Facts]:
    """The state as it is kept, with the first instant (in whole microseconds) at which it says nothing any more."""
    tat, rate, _, _, limit_of_credit = state
    if tat <= now and limit_of_credit * rate <= now:
        return None, 0, facts
    return state, max(-(-tat // rate), limit_of_credit), facts


def wire(arguments: Arguments) -> tuple[int, ...]:
    """`increment` and `tolerance` as pairs, and the `rate`."""
    increment, tolerance, rate = arguments
    return *divmod(increment, rate), *divmod(tolerance, rate), rate


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """The place as a pair, what was credited, and 1 for `only_as_last`."""
    return *divmod(receipt[0], arguments[2]), receipt[1], int(receipt[2])


def read(take: Callable[[], int], now_us: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply: debt as a pair, wait, and the receipt where it is not the plainest."""
    rate = arguments[2]
    debt = take() * rate
    debt += take()
    wait_us = take()
    if wait_us < 0:
        place = take() * rate
        place += take()
        return debt, -wait_us - 1, place, take()
    return debt, wait_us, now_us * rate + debt, 0

"""The token bucket, as the generic cell rate algorithm (GCRA) with an exact remainder.

GCRA (ITU-T I.371, "virtual scheduling") keeps one number per bucket: the theoretical arrival time `tat`, the
instant at which everything spent so far will have been earned again. What lies between now and the `tat`
is the debt; a hit may pass while the debt stays within the `tolerance`, the time it takes to earn a full bucket.

One token is `period / rate` microseconds, a rational. Here, time is therefore counted in *parts* of `1 / rate`
microsecond, in Python's big integers: a token is `period` parts, whatever the rate. The script beside this file
writes the same number as a pair `(q, r)`: `q` whole microseconds and `r` parts.

**Stretches.** Each hit owns a stretch of the bucket's future, from `place - increment` to its `place`, the `tat` just
after it. No two overlap, none begins before its hit is used, and none ends later than `tolerance` after. So the hits
of an interval `[a, b]` have room in `[a, b + tolerance]`, which is `burst + rate * (b - a)` tokens. Time pays the
stretches in their order.

**Waiting.** With `max_wait`, a hit may be admitted into the future: it takes its stretch behind the others and learns
when its turn comes. Somebody *waits* until the latest turn that was told (`waiting_until_us`).

**Giving back.** A hit gives back the part of its stretch that time has not paid yet, from the end: that is owed to
nobody any more. More than that would let through, in some interval, more than `burst + rate * t`.

- The last just leaves: the `tat` goes back.
- While nobody waits, what lies behind moves up: the `tat` goes back, too. Since hits that were told a place before
  must still be found, a hit goes by its *nominal* place: the one that it would have if nothing had ever moved up.
  That is its place, and what had moved up by then (`credited`). Where stretches are missing is noted (`returned`).
- While somebody waits, nothing may move: turns were told. What is given back becomes a *vacancy*, which a newcomer
  takes if it can go earlier there than behind the last. When nobody waits any more, what is left of it is closed up.
- Where tokens are leased (see lease.py), nothing may ever move: others may hold leases behind it, which say until when
  each of their tokens is good. There, a hit whose turn has come gives back only as the last, and a vacancy is
  never closed up.

All that, in sums over `notes`, is in token_bucket_notes.py.

**A clock that steps back** would leave a debt that no hit can have made: what is above the `tolerance` is cut off.
Where a debt may be larger (charged, or of those who wait), the state has a stamp, and tells by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

from headgate.algorithms import MAX_DEBT_US, Lasting, Written, not_here, texts
from headgate.algorithms.token_bucket_notes import (
    MAX_CREDIT_US,
    NOTHING,
    Notes,
    actual,
    close_up,
    in_other_parts,
    leave,
    move_up,
    nominal,
    pass_time,
    set_back,
    with_vacancy,
)

Arguments = tuple[int, int, int]
"""`(increment, tolerance, rate)`: the cost and the capacity in parts, and the parts per microsecond."""
Facts = tuple[int, int, int, int]
"""`(debt, wait_us, place, credited)`: the debt after the decision, in parts; how long until the hit may pass (0:
now); where the hit stands in the queue, in parts since the epoch; what had moved up before it by then, in parts. The
last two are the hit's receipt."""
Receipt = tuple[int, int, bool]
"""`(place, credited, only_as_last)`: of an earlier hit; and, once its turn has come, may its tokens come back only if
nobody came after it?"""
State = tuple[int, int, Notes | None]
"""`(tat, rate, notes)`: what a bucket remembers; the `tat` is in parts of `1 / rate` microsecond. Without notes, it is
*plain*."""


class Judged(NamedTuple):
    """A hit that was judged but not yet spent."""

    now_us: int
    tat: int
    notes: Notes
    arguments: Arguments
    wait_us: int
    taken: int
    """The index of the vacancy to take, or -1 for a place of its own."""
    is_mended: bool
    """Has the clock stepped back, so that the state has to be written whatever becomes of the hit?"""


def settle(state: State | None, now_us: int, tolerance: int, rate: int) -> tuple[int, Notes, bool]:
    """The `tat` and the notes, brought to `rate` and `now_us`; and whether the clock was found to have stepped back."""
    now = now_us * rate
    if state is None:
        return now, NOTHING, False
    tat, known, noted = state
    notes = noted or NOTHING
    if known != rate:
        tat, notes = -(-tat // known) * rate, in_other_parts(notes, known, rate)
    ahead = tat - now - tolerance if noted is None else (notes.stamp_us - now_us) * rate
    is_mended = ahead > 0
    if is_mended:
        tat, notes = set_back(tat, rate, notes, ahead)
    if notes is not NOTHING:
        tat, notes = pass_time(tat, rate, notes, now_us)
    return tat, notes, is_mended


def judge(state: State | None, now_us: int, arguments: Arguments, max_wait_us: int) -> tuple[bool, Judged]:
    """May a hit pass now, or within `max_wait_us`?"""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, notes, is_mended = settle(state, now_us, tolerance, rate)
    new_debt = max(0, tat - now) + increment
    wait_us = -(-(new_debt - tolerance) // rate) if new_debt > tolerance else 0
    taken = -1
    if wait_us > 0:
        for index, (begin, end) in enumerate(notes.vacancies):
            turn_us, start = _turn(begin, now_us, arguments)
            if start + increment <= end:
                if turn_us - now_us <= wait_us:
                    wait_us, taken = turn_us - now_us, index
                break
    return wait_us <= max_wait_us, Judged(now_us, tat, notes, arguments, wait_us, taken, is_mended)


def _turn(begin: int, now_us: int, arguments: Arguments) -> tuple[int, int]:
    """When a hit may go that takes a vacancy which begins at `begin`, and where its stretch then begins."""
    increment, tolerance, rate = arguments
    turn_us = max(now_us, -(-(begin + increment - tolerance) // rate))
    return turn_us, max(begin, turn_us * rate)  # a turn is a whole microsecond, and counts as such


def spend(judged: Judged) -> Written[State]:
    """Take the cost."""
    now_us, tat, notes, arguments, wait_us, taken, _ = judged
    increment, _, rate = arguments
    credited = notes.credited
    if taken >= 0:
        vacancies = notes.vacancies
        begin, end = vacancies[taken]
        place = _turn(begin, now_us, arguments)[1] + increment
        rest = ((place, end),) if place < end else ()
        credited = nominal(notes, place) - place
        notes = notes._replace(vacancies=vacancies[:taken] + rest + vacancies[taken + 1 :])
    else:
        # A turn is a whole microsecond, and counts as such.
        tat = place = max(tat, (now_us + wait_us) * rate) + increment
    if wait_us > 0:
        notes = notes._replace(waiting_until_us=max(notes.waiting_until_us, now_us + wait_us))
    return write(tat, notes, now_us, arguments, (max(0, tat - now_us * rate), wait_us, place, credited))


def keep(judged: Judged) -> Facts:
    """Take nothing."""
    now_us, tat, notes, (increment, tolerance, rate), wait_us, _, _ = judged
    if wait_us > 0 and notes.vacancies:  # who comes back may find them closed up
        until_us = notes.waiting_until_us
        closed = tat - sum(max(0, end - max(begin, until_us * rate)) for begin, end in notes.vacancies)
        free_us = max(until_us, -(-(closed + increment - tolerance) // rate))
        wait_us = min(wait_us, free_us - now_us)
    now = now_us * rate
    return max(0, tat - now), wait_us, max(tat, now), notes.credited


def repaired(judged: Judged) -> tuple[State | None, int] | None:
    """As `Algorithm.repaired`: the debt that was cut, or the places that were shifted."""
    if not judged.is_mended:
        return None
    return write(judged.tat, judged.notes, judged.now_us, judged.arguments, keep(judged))[:2]


def plain_facts(tat: int, now_us: int, arguments: Arguments, *, is_allowed: bool) -> Facts:
    """The facts of a hit that asked to go now, at a bucket to which nothing was given back; the `tat` is the latest."""
    increment, tolerance, rate = arguments
    debt = tat - now_us * rate
    return debt, 0 if is_allowed else -(-(debt + increment - tolerance) // rate), tat, 0


def give_back(state: State | None, now_us: int, arguments: Arguments, receipt: Receipt) -> Written[State]:
    """Return the `increment` that a hit with this receipt took, as far as time has not paid it yet."""
    increment, tolerance, rate = arguments
    place, credited_before, only_as_last = receipt
    now = now_us * rate
    tat, notes, _ = settle(state, now_us, tolerance, rate)
    nominal = place + credited_before
    end = min(place, actual(notes, nominal))
    owed = min(increment, end - now)
    last = tat + notes.credited
    if owed <= 0 or nominal > last or notes.credited >= MAX_CREDIT_US * rate:
        pass
    elif nominal == last:
        tat, notes = leave(tat, notes, owed)
        if not only_as_last and notes.waiting_until_us > 0:  # no later turn was told to those who are left
            turn_us = -(-(tat - tolerance) // rate)
            notes = notes._replace(waiting_until_us=min(notes.waiting_until_us, turn_us))
            if turn_us <= now_us:
                tat, notes = close_up(tat, rate, notes, now_us)
    elif notes.waiting_until_us > 0:
        if not only_as_last:
            notes = with_vacancy(notes, end - owed, end)
        elif end - tolerance > now:  # its turn has not come; until it is past, nothing is closed up
            notes = with_vacancy(notes, end - owed, end)
            notes = notes._replace(waiting_until_us=max(notes.waiting_until_us, -(-end // rate)))
    elif not only_as_last:
        tat, notes = move_up(tat, rate, notes, end - owed, end)
    return write(tat, notes, now_us, arguments, (max(0, tat - now), 0, max(tat, now), notes.credited))


def take(state: State | None, now_us: int, arguments: Arguments) -> Written[State]:
    """Charge the `increment` whatever the limit says; the debt saturates at 71 years."""
    increment, tolerance, rate = arguments
    now = now_us * rate
    tat, notes, _ = settle(state, now_us, tolerance, rate)
    tat = max(tat, min(max(tat, now) + increment, now + MAX_DEBT_US * rate))
    return write(tat, notes, now_us, arguments, (max(0, tat - now), 0, tat, notes.credited))


def write(tat: int, notes: Notes, now_us: int, arguments: Arguments, facts: Facts) -> Written[State]:
    """The state as it is kept, with the first instant (in whole microseconds) at which it says nothing any more."""
    _, tolerance, rate = arguments
    now = now_us * rate
    kept_until_us = notes.kept_until_us if notes.credited > 0 else 0
    if tat <= now and kept_until_us <= now_us:
        return None, 0, facts
    expires_at = max(-(-tat // rate), kept_until_us)
    if notes.credited == 0 and notes.waiting_until_us == 0 and tat <= now + tolerance:
        return (tat, rate, None), expires_at, facts
    return (tat, rate, notes._replace(stamp_us=now_us, kept_until_us=kept_until_us)), expires_at, facts


renew = not_here


def merge(kept: Lasting[State], other: Lasting[State]) -> Lasting[State]:
    """As `Algorithm.merge`: the one with the later `tat`, by the instants. Of its vacancies, what the other bucket's
    debt covers is taken.
    """
    first, second = kept[0], other[0]
    if first == second:
        return first, max(kept[1], other[1])
    ahead = second[0] * first[1] - first[0] * second[1]
    if ahead > 0 or (ahead == 0 and first[2] is None):  # of two alike, notes tell more
        first, second = second, first
    tat, rate, notes = first
    if notes is not None:
        covered = -(-second[0] * rate // second[1])
        vacancies = [(max(begin, covered), end) for begin, end in notes.vacancies if end > covered]
        notes = notes._replace(vacancies=tuple(vacancies))
    return (tat, rate, notes), max(kept[1], other[1])


def pack(state: State, until_us: int, rate: int) -> int | None:
    """As `Algorithm.pack`, of a plain bucket: its `tat`."""
    tat, known, notes = state
    return tat if known == rate and notes is None else None


def unpack(packed: int, rate: int) -> tuple[State, int]:
    """As `Algorithm.unpack`."""
    return (packed, rate, None), -(-packed // rate)


def least(now_us: int, rate: int) -> int:
    """As `Algorithm.least`."""
    return now_us * rate


def wire(arguments: Arguments) -> tuple[int, ...]:
    """`increment` and `tolerance` as pairs, and the `rate`."""
    increment, tolerance, rate = arguments
    return *divmod(increment, rate), *divmod(tolerance, rate), rate


def wire_receipt(arguments: Arguments, receipt: Receipt) -> tuple[int, ...]:
    """The place and what was credited as pairs, and 1 for `only_as_last`."""
    rate = arguments[2]
    return *divmod(receipt[0], rate), *divmod(receipt[1], rate), int(receipt[2])


def read(take: Callable[[], int], now_us: int, arguments: Arguments) -> Facts:
    """The facts of one hit from a reply: debt as a pair, wait, and the receipt where it is not the plainest."""
    rate = arguments[2]
    debt = take() * rate
    debt += take()
    wait_us = take()
    if wait_us < 0:
        place = take() * rate
        place += take()
        credited = take() * rate
        return debt, -wait_us - 1, place, credited + take()
    return debt, wait_us, now_us * rate + debt, 0


def dump(state: State) -> str:
    """As `Algorithm.dump`: the `tat` and the rate; and the notes with how many vacancies there are, and all spans."""
    tat, rate, notes = state
    if notes is None:
        return texts.flat(tat, rate)
    spans = chain.from_iterable(notes.vacancies + notes.returned)
    return texts.flat(tat, rate, *notes[:4], len(notes.vacancies), *spans)


def load(text: str) -> State:
    """As `Algorithm.load`."""
    match texts.numbers(text, "token bucket"):
        case [tat, rate] if rate > 0:
            return tat, rate, None
        case [tat, rate, stamp_us, credited, kept_until_us, waiting_until_us, count, *bounds] if rate > 0:
            spans = tuple(zip(bounds[::2], bounds[1::2], strict=False))
            if len(bounds) == 2 * len(spans) and 0 <= count <= len(spans):
                notes = Notes(stamp_us, credited, kept_until_us, waiting_until_us, spans[:count], spans[count:])
                return tat, rate, notes
    raise texts.unreadable(text, "token bucket")

"""The notes of a token bucket to which something was given back, or for which somebody waits: see token_bucket.py.

Pure functions over the `tat`, the notes and the parts per microsecond.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Span = tuple[int, int]
"""`(begin, end)`, in parts since the epoch."""

MAX_SPANS: Final = 64
"""More vacancies than these are not remembered; the smallest is forgotten, and with it its tokens. Of more returned
stretches, the earliest is: hits before it then give back less than they could."""
MAX_CREDIT_US: Final = 2**50 - 1
"""Who has been given back so much (35 years of earning) without ever having been full again is given no more."""


class Notes(NamedTuple):
    """All that a bucket knows besides its `tat`, unless there is nothing to know."""

    stamp_us: int = 0
    """When this was written."""
    credited: int = 0
    """How much has moved up, in parts. A nominal place is an actual one and this."""
    kept_until_us: int = 0
    """Until when a hit from before may still give something back: by then the bucket would have been full without any
    giving back."""
    waiting_until_us: int = 0
    """The latest turn that was told. 0: nobody waits."""
    vacancies: tuple[Span, ...] = ()
    """Free stretches among those that wait, in order."""
    returned: tuple[Span, ...] = ()
    """Stretches that are there no more, by nominal place, in order: what lay behind them has moved up."""


NOTHING: Final = Notes()


def in_other_parts(notes: Notes, known: int, rate: int) -> Notes:
    """Round to whole microseconds, against the caller."""

    def within(spans: tuple[Span, ...]) -> tuple[Span, ...]:
        rounded = [(-(-begin // known) * rate, end // known * rate) for begin, end in spans]
        return tuple((begin, end) for begin, end in rounded if begin < end)

    return notes._replace(
        credited=-(-notes.credited // known) * rate,
        vacancies=within(notes.vacancies),
        returned=within(notes.returned),
    )


def set_back(tat: int, rate: int, notes: Notes, ahead: int) -> tuple[int, Notes]:
    """Move all by which the clock is behind, as if it had stood still; nominal places stay."""
    return tat - ahead, notes._replace(
        credited=min(notes.credited + ahead, MAX_CREDIT_US * rate),
        kept_until_us=max(notes.kept_until_us, -(-tat // rate)),
        waiting_until_us=max(0, notes.waiting_until_us - ahead // rate),
        vacancies=tuple((begin - ahead, end - ahead) for begin, end in notes.vacancies),
    )


def pass_time(tat: int, rate: int, notes: Notes, now_us: int) -> tuple[int, Notes]:
    """Let time pass until now: if the last turn has come, vacancies were closed up. What is paid is forgotten."""
    now = now_us * rate
    if notes.waiting_until_us <= now_us:
        tat, notes = close_up(tat, rate, notes, notes.waiting_until_us)
    if notes.kept_until_us <= now_us and tat <= now:
        return tat, NOTHING
    returned, behind = notes.returned, 0
    for index in range(len(returned) - 1, -1, -1):
        begin, end = returned[index]
        if end - notes.credited + behind <= now:  # where it was is past
            returned = returned[index + 1 :]
            break
        behind += end - begin
    vacancies = tuple((max(begin, now), end) for begin, end in notes.vacancies if end > now)
    return max(tat, now), notes._replace(vacancies=vacancies, returned=returned)


def close_up(tat: int, rate: int, notes: Notes, at_us: int) -> tuple[int, Notes]:
    """At `at_us`, nobody waits any more: what was left free moves up."""
    at = at_us * rate
    for begin, end in reversed(notes.vacancies):
        if end > at:
            tat, notes = move_up(tat, rate, notes, max(begin, at), end)
    return tat, notes._replace(vacancies=(), waiting_until_us=0)


def move_up(tat: int, rate: int, notes: Notes, begin: int, end: int) -> tuple[int, Notes]:
    """Take a free stretch out: what lies behind it moves up."""
    returned = joined(notes.returned, nominal(notes, begin), nominal(notes, end))
    return tat - (end - begin), notes._replace(
        credited=min(notes.credited + end - begin, MAX_CREDIT_US * rate),
        kept_until_us=max(notes.kept_until_us, -(-tat // rate)),
        returned=returned[-MAX_SPANS:],
    )


def nominal(notes: Notes, place: int) -> int:
    """The nominal place of an actual one; the first of those that there are."""
    behind = 0
    for begin, end in reversed(notes.returned):
        if end - notes.credited + behind < place:
            break
        behind += end - begin
    return place + notes.credited - behind


def actual(notes: Notes, nominal: int) -> int:
    """Where a nominal place is now."""
    behind = sum(end - max(begin, nominal) for begin, end in notes.returned if end > nominal)
    return nominal - notes.credited + behind


def joined(spans: tuple[Span, ...], begin: int, end: int) -> tuple[Span, ...]:
    """The spans and another one; what touches is one."""
    before = tuple(span for span in spans if span[1] < begin)
    after = tuple(span for span in spans if span[0] > end)
    touching = spans[len(before) : len(spans) - len(after)]
    if touching:
        begin, end = min(begin, touching[0][0]), max(end, touching[-1][1])
    return *before, (begin, end), *after


def leave(tat: int, notes: Notes, owed: int) -> tuple[int, Notes]:
    """The last leaves, and so does what is free or missing before it."""
    tat -= owed
    credited, vacancies, returned = notes.credited, notes.vacancies, notes.returned
    while True:
        if vacancies and vacancies[-1][1] == tat:
            tat, vacancies = vacancies[-1][0], vacancies[:-1]
        elif returned and returned[-1][1] == tat + credited:
            credited, returned = credited - (returned[-1][1] - returned[-1][0]), returned[:-1]
        else:
            return tat, notes._replace(credited=credited, vacancies=vacancies, returned=returned)


def with_vacancy(notes: Notes, begin: int, end: int) -> Notes:
    """With another vacancy. If they are too many, without the smallest."""
    vacancies = joined(notes.vacancies, begin, end)
    if len(vacancies) > MAX_SPANS:
        smallest = min(vacancies, key=lambda span: (span[1] - span[0], span))
        vacancies = tuple(span for span in vacancies if span is not smallest)
    return notes._replace(vacancies=vacancies)

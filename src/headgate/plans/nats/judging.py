"""Judging a batch by what is known of the entries, and writing what comes of it: each write says which revision it
follows, and is refused if somebody has written there since. Then what is there is read, and all is judged anew.

Nothing is read first that need not be. What is remembered is right unless another process has written there, and the
write finds that out; an entry of which nothing is remembered is read and, as if there were none, written in the same
round trip. But a decision stands only on entries that were read by this call, or whose write has proven that they were
still as remembered. So a denial by memory alone is never given.

Groups that have an entry in common, directly or by others, are judged together and written together; the rest of the
batch does not wait for them if they have to be judged again. Where groups have several entries, they are first written
together all the same: a commit of several takes a server with files milliseconds, however many they are. Where the
bucket cannot write several entries all or none, a group that has several is taken hit by hit, and given back when a
later one denies.

This module must not know how a command is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from headgate.decision import Answer, Decision
from headgate.drive import Plan, together
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.cluster import RoutedGroup, judge_hits_apart
from headgate.plans.groups import give_back_groups
from headgate.plans.merging import MARK, MARK_PENDING, Place
from headgate.plans.nats.commands import Command, Commands, Commit, Judge, Moved, Now, Pause, Put, Read, Terms
from headgate.plans.nats.kept import NOTHING, Kept, Known
from headgate.plans.nats.parts import MAX_PUTS, bundles_of, parts_of, places_in, places_of

MAX_TRIES: Final = 100
"""How often a part of a batch is judged before others win for good. The deadline mostly comes first."""
MAX_TRIES_BUNDLED: Final = 2
"""How often parts that have nothing in common are judged as one: by what is known, and by what was read. Those whom
others race must not hold up the rest.
"""
FIRST_PAUSE_US: Final = 250
LAST_PAUSE_US: Final = 1_000
"""Whoever lost a race reads and tries again at once; after the next, it waits for a random time up to the first of
these, and then twice as long each time, up to the last."""
LAST_STALLED_PAUSE_US: Final = 16_000
"""Where a write was refused and nobody has written since, an earlier one is still on its way to the other servers. It
waits for that, mostly a part of a millisecond; for good, if most of them are gone."""
GONE_AFTER_US: Final = 1_000_000
"""So long after its end an entry has been removed, since lives are whole seconds."""
PENDING_US: Final = 1_000_000
"""How long others wait for whoever decides on a request of the same id, where a mark is written by itself."""
YIELD_US: Final = 2_000
"""Whoever lost a race lets others go first for a while: before each of the next batches it waits for a random time up
to this. Who wins needs one round trip for the next write, and who loses needs two: without this, a few would always
win."""

C = TypeVar("C")


def decide(groups: Sequence[Group], now_us: int, terms: Terms) -> Commands[list[Answer]]:
    """Judge groups, in their order. Asks for lists of commands, which may be carried out side by side.

    :param now_us: the time, by the store's clock.
    """
    parts = parts_of(groups)
    if len(parts) == 1:
        return (yield from _judge(groups, now_us, terms))
    bundles = bundles_of([[groups[index] for index in part] for part in parts], terms.known, is_atomic=terms.is_atomic)
    by_part = yield from together([_judge_bundle(bundle, now_us, terms) for bundle in bundles.values()])
    answers: dict[int, Answer] = {}
    for bundled, answered in zip(bundles, by_part, strict=True):
        indices = [index for number in bundled for index in parts[number]]
        answers.update(zip(indices, answered, strict=True))
    return [answers[index] for index in range(len(groups))]


def _judge_bundle(parts: Sequence[Sequence[Group]], now_us: int, terms: Terms) -> Commands[list[Answer]]:
    """Judge parts as one, and in two halves if nothing was written: those that others wrote first and the rest, or any
    where that does not part them. The answers are in their order.
    """
    if len(parts) == 1:
        return (yield from _judge(parts[0], now_us, terms))
    groups = [group for part in parts for group in part]
    places = list(places_in(groups))
    judged = yield from _judge_together(groups, places, now_us, terms, MAX_TRIES_BUNDLED)
    if isinstance(judged, list):
        return judged
    if isinstance(judged, StoreOutage) and judged.is_of_server:
        return [judged] * len(groups)
    moved = judged.moved if isinstance(judged, Refused) else set[Place]()
    beaten = [number for number, part in enumerate(parts) if not moved.isdisjoint(places_in(part))]
    if not 0 < len(beaten) < len(parts):
        beaten = list(range(len(parts) // 2))
    is_time_left, now_us = yield [Pause(LAST_PAUSE_US), Now()]
    if not is_time_left:
        return [terms.contention(not moved)] * len(groups) if isinstance(judged, Refused) else [judged] * len(groups)
    others = [number for number in range(len(parts)) if number not in beaten]
    by_half = yield from together(
        [_judge_bundle([parts[number] for number in half], now_us, terms) for half in (beaten, others)]
    )
    answered = dict[int, list[Answer]]()
    for half, answers in zip((beaten, others), by_half, strict=True):
        left = iter(answers)
        answered |= {number: [next(left) for _ in parts[number]] for number in half}
    return [answer for number in range(len(parts)) for answer in answered[number]]


def _judge(groups: Sequence[Group], now_us: int, terms: Terms) -> Commands[list[Answer]]:
    """Judge groups of one part."""
    places = list(places_in(groups))
    if len(places) == 1 or (terms.is_atomic and len(places) <= MAX_PUTS):
        judged = yield from _judge_together(groups, places, now_us, terms, MAX_TRIES)
        if isinstance(judged, Refused):
            judged = terms.contention(not judged.moved)
        return [judged] * len(groups) if isinstance(judged, StoreOutage) else judged
    if len(groups) > 1:  # one half after the other
        half = len(groups) // 2
        answers: list[Answer] = []
        for some in (groups[:half], groups[half:]):
            answers += yield from _judge(some, now_us, terms)
            (now_us,) = yield [Now()]
        return answers
    (group,) = groups
    if group.once is not None:
        return (yield from _judge_once_apart(group, now_us, terms))
    return (yield from _carried_out(judge_hits_apart(group), lambda routed: _judge_routed(routed, terms)))


class Refused(NamedTuple):
    """Each time, others had written before."""

    moved: set[Place]
    """The entries to which that was done the last time; none if the write was refused though nobody has written."""


def _judge_together(
    groups: Sequence[Group], places: list[Place], now_us: int, terms: Terms, tries: int
) -> Commands[list[Answer] | StoreOutage | Refused]:
    """Judge groups, and write in one commit what comes of all of them; or return what hinders that."""
    known = terms.known
    remembered = [_still_there(known.get(place), now_us) for place in places]
    entries = {place: kept or NOTHING for place, kept in zip(places, remembered, strict=True)}
    doubtful = [place for place, kept in zip(places, remembered, strict=True) if kept is None or known.is_shared(place)]
    is_read = False
    pause_us = 0
    moved = set(places)
    yielding = [place for place in places if known.is_to_yield(place)]  # each is counted
    if yielding:
        yield [Pause(YIELD_US)]
        (now_us,) = yield [Now()]
    for _ in range(tries):
        judged = _Judged(groups, now_us, entries, terms.judge)
        if not is_read and not judged.asked <= judged.writes.keys():  # nothing would prove what is remembered
            outage, now_us = yield from _read(places, entries, known)
            if outage is not None:
                return outage
            is_read = True
            judged = _Judged(groups, now_us, entries, terms.judge)
        if not judged.writes:
            return judged.decisions
        puts = tuple(
            Put(place, entries[place].revision, text, until_us, life_s(text, until_us - now_us + terms.margin_us))
            for place, (text, until_us) in judged.writes.items()
        )
        asked: list[Command] = [Commit(puts)]
        if not is_read:
            asked += [Read(place) for place in doubtful]
        try:
            reply, *reads = yield asked
        except BaseException:  # nobody will know whether it was written
            _forget(places, known)
            raise
        if isinstance(reply, StoreOutage):
            _forget(places, known)
            return reply
        if not isinstance(reply, Moved):
            for put, revision in zip(puts, reply, strict=True):
                known.learn(put.place, Kept(revision, put.text, put.until_us))
            return judged.decisions
        _forget(places, known)
        if pause_us:
            (is_time_left,) = yield [Pause(pause_us)]
            if not is_time_left:
                break
        if is_read:
            longest_us = LAST_PAUSE_US if moved else LAST_STALLED_PAUSE_US
            pause_us = min(longest_us, pause_us * 2 or FIRST_PAUSE_US)
        if reads and doubtful == places and _explain(reads, [entries[place] for place in places]):
            entries = dict(zip(places, reads, strict=True))
            (now_us,) = yield [Now()]
        else:
            outage, now_us = yield from _read(places, entries, known)
            if outage is not None:
                return outage
        moved = {put.place for put in puts if entries[put.place].revision != put.revision}
        for place in moved:
            known.lost(place, is_race=is_read)
        is_read = True
    return Refused(moved)


def _still_there(kept: Kept | None, now_us: int) -> Kept | None:
    """An entry as it is remembered, unless the server has removed it by now since its life is over."""
    is_gone = kept is not None and kept.revision > 0 and kept.until_us + GONE_AFTER_US <= now_us
    return None if is_gone else kept


def _explain(reads: Sequence[object], before: Sequence[Kept]) -> bool:
    """Do entries that were read together with a refused write say why it was refused? They may have been read before
    somebody else wrote.
    """
    return all(isinstance(one, Kept) for one in reads) and any(
        isinstance(one, Kept) and one.revision != kept.revision for one, kept in zip(reads, before, strict=True)
    )


def _read(places: list[Place], entries: dict[Place, Kept], known: Known) -> Commands[tuple[StoreOutage | None, int]]:
    """Read entries, and the clock after that."""
    replies = yield [Read(place) for place in places]
    (now_us,) = yield [Now()]
    for place, reply in zip(places, replies, strict=True):
        if isinstance(reply, StoreOutage):
            _forget(places, known)
            return reply, now_us
        entries[place] = reply
        known.learn(place, reply)
    return None, now_us


def _forget(places: Iterable[Place], known: Known) -> None:
    for place in places:
        known.forget(place)


def life_s(text: str | None, life_us: int) -> int:
    """How long to keep an entry, in whole seconds, rounded up. That nothing is owed need not be kept."""
    return 1 if text is None else max(1, -(-life_us // 1_000_000))


class _Judged:
    """The outcome of groups: their decisions, and what to write."""

    def __init__(self, groups: Sequence[Group], now_us: int, entries: dict[Place, Kept], judge: Judge) -> None:
        self.writes: dict[Place, tuple[str | None, int]] = {}
        self.asked: set[Place] = set()
        """The entries that were asked for."""

        def load(name: str, code: str, key: str) -> tuple[str, int] | None:
            place = Place(name, code, key)
            self.asked.add(place)
            text, until_us = self.writes.get(place) or entries[place][1:]
            return None if text is None else (text, until_us)

        decisions: list[Answer] = []
        for group in groups:
            decision, writes = judge(group, now_us, load)
            for name, code, key, text, until_us in writes:
                self.writes[Place(name, code, key)] = text, until_us
            decisions.append(decision)
        self.decisions = decisions


def _judge_once_apart(group: Group, now_us: int, terms: Terms) -> Commands[list[Answer]]:
    """Judge a group that counts once, where its mark and its state cannot be written together. What follows a decision
    writes or removes its mark first: at worst, it does not count, and never twice. A spend first writes a mark that
    says that it is being decided, for which others wait a while; at worst, it counts, and its mark is missing.
    """
    places = places_of(group)
    marked = places[-1]
    entries: dict[Place, Kept] = {}
    for _ in range(MAX_TRIES):
        outage, now_us = yield from _read(places, entries, terms.known)
        if outage is not None:
            return [outage]
        if entries[marked].text == MARK_PENDING and entries[marked].until_us > now_us:
            (is_time_left,) = yield [Pause(LAST_STALLED_PAUSE_US)]
            if not is_time_left:
                break
            continue
        judged = _Judged([group], now_us, entries, terms.judge)
        if marked not in judged.writes:  # it has counted, or comes too late, or was denied
            return judged.decisions
        text, until_us = judged.writes[marked]
        is_charged = group.action == "spend" and text == MARK
        if is_charged:
            text, until_us = MARK_PENDING, now_us + PENDING_US
        reply = yield from _mark(marked, entries[marked].revision, text, until_us, now_us, terms)
        if isinstance(reply, StoreOutage):
            return [reply]
        if isinstance(reply, Moved):
            continue
        if group.action == "spend" and not is_charged:  # a repeat, which is noted now
            return judged.decisions
        answers = yield from _judge([group._replace(once=None)], now_us, terms)
        if is_charged:
            answers = yield from _settled(group, answers[0], Kept(reply, text, until_us), terms)
        if answers:
            return answers
    return [terms.contention(False)]


def _settled(group: Group, answer: Answer, pending: Kept, terms: Terms) -> Commands[list[Answer]]:
    """The answer to a spend that counts once, when its mark says so in place of `pending`; none if somebody else has
    taken the mark over meanwhile. What was denied leaves no mark, and of what has no answer, the mark lapses.
    """
    assert group.once is not None
    if isinstance(answer, StoreOutage):
        return [answer]
    marked = places_of(group)[-1]
    (now_us,) = yield [Now()]
    if not answer.allowed:
        yield from _mark(marked, pending.revision, None, 0, now_us, terms)
        return [answer]
    until_us = answer.now_us + group.once.life_us
    reply = yield from _mark(marked, pending.revision, MARK, until_us, now_us, terms)
    if isinstance(reply, StoreOutage):
        return [reply]
    if isinstance(reply, Moved):
        yield from _judge(give_back_groups(answer), now_us, terms)
        return []
    return [Decision(group, answer.now_us, True, answer.facts, instants_us=answer.instants_us)]


def _mark(
    place: Place, revision: int, text: str | None, until_us: int, now_us: int, terms: Terms
) -> Commands[int | Moved | StoreOutage]:
    """Write a mark in place of its revision, and return the new one."""
    terms.known.forget(place)
    put = Put(place, revision, text, until_us, life_s(text, until_us - now_us + terms.margin_us))
    (reply,) = yield [Commit((put,))]
    if isinstance(reply, (Moved, StoreOutage)):
        return reply
    written: int = reply[0]
    return written


def _judge_routed(routed: Sequence[RoutedGroup], terms: Terms) -> Commands[list[Answer]]:
    """Judge groups of one hit, one after the other: two of them may have an entry in common."""
    answers: list[Answer] = []
    for one in routed:
        (now_us,) = yield [Now()]
        answers += yield from _judge([one.group], now_us, terms)
    return answers


def _carried_out(plan: Plan[C, Answer], carry_out: Callable[[C], Commands[Any]]) -> Commands[list[Answer]]:
    """Run a plan whose commands are plans themselves. What is thrown in is thrown into both."""
    try:
        command = next(plan)
        while True:
            try:
                reply = yield from carry_out(command)
            except GeneratorExit:  # dropped: nobody is there to send what it would ask
                plan.close()
                raise
            except BaseException as error:
                command = plan.throw(error)
            else:
                command = plan.send(reply)
    except StopIteration as done:
        answer: Answer = done.value
        return [answer]

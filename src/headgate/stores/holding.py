"""Judging a group here, in Python: for every store that holds state, and does not compute where the data is.

`judge_group` is for stores that keep texts: it asks for what is kept, and says what to keep. `judge` is beneath it, and
is all that a store in this process's memory needs. This module must not know where the state is kept, nor how it is
made sure that nobody changes it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from headgate.algorithms import Facts, Written, penalty, texts, token_bucket
from headgate.decision import Decision
from headgate.hits import JUDGING, KNOWN, Group, Once, known, marked_key
from headgate.limits import Limit, TokenBucket
from headgate.plans.merging import MARK, MARK_ANSWERED, MARK_PENDING, MARKS

P = TypeVar("P")

Work = Callable[[], Written[Any] | None]
"""Takes what was judged, and tells what to keep. It may be done again: what it changes in place, it changes once. None
says that it was changed, and has gone on since."""
Find = Callable[[str, Limit, str], tuple[P, Any, int]]
"""By a name, a limit and a key: the place of the state, which is the store's own affair, the state (or None), and until
when it says something."""
Verdict = tuple[int, Sequence[tuple[P, Work]], tuple[Facts, ...]]
"""`(verdict, parts, facts)`: what comes of a group, the work at each place, and the facts where work tells none. The
verdict is 1 (allowed), 0 or `KNOWN`."""


class Write(NamedTuple):
    """An entry to be kept, in place of what was there before."""

    name: str
    code: str
    key: str
    text: str | None
    """The state; None: nothing is owed any more."""
    until_us: int
    """From then on, by the store's clock, it says nothing, and may be dropped."""


Load = Callable[[str, str, str], tuple[str, int] | None]
"""By a name, an algorithm's code and a key: the text that is kept there and its `until_us`, None if there is none."""


def judge_group(group: Group, now_us: int, load: Load) -> tuple[Decision, list[Write]]:
    """Judge a group by what is kept: the decision, and what to keep from now on before anybody else asks.

    :param now_us: the time, by the store's clock.
    """
    hit = group.hits[0]
    if hit.limit.__class__ is TokenBucket and hit.cost > 0 and group.is_plain:
        judged = _judge_bucket(group, now_us, load(hit.name, "tb", hit.key))
        if judged is not None:
            return judged

    def find(name: str, limit: Limit, key: str) -> tuple[tuple[str, Limit, str, Any], Any, int]:
        text, until_us = kept = load(name, limit.code, key) or (MARK, 0)
        return (
            (name, limit, key, kept),
            None if until_us <= now_us else text if text in MARKS else limit.algorithm.load(text),
            until_us,
        )

    verdict, parts, facts = judge(group, now_us, find)
    writes, told = [], []
    for (name, limit, key, kept), work in parts:
        written = work()
        assert written is not None  # the state is ours alone
        state, until_us, facts_here = written
        if facts_here:
            told.append(facts_here)
        text = state if state is None or state.__class__ is str else limit.algorithm.dump(state)
        if (text, until_us) != kept and (text is not None or kept != (MARK, 0)):  # a penalty mostly stays as it is
            writes.append(Write(name, limit.code, key, text, until_us))
    return decided(group, now_us, verdict, facts or tuple(told)), writes


def decided(group: Group, now_us: int, verdict: int, facts: tuple[Facts, ...]) -> Decision:
    """The decision that a verdict makes."""
    return Decision(known(group) if verdict == KNOWN else group, now_us, verdict > 0, facts)


def _judge_bucket(group: Group, now_us: int, kept: tuple[str, int] | None) -> tuple[Decision, list[Write]] | None:
    """Judge a single hit of a plain token bucket, which is most of what is asked: as `judge` with the algorithm's
    `judge` and `spend` or `keep` in one, in a third of the time. None: it is not plain.
    """
    limit, key, name, cost = group.hits[0][:4]
    arguments = increment, tolerance, rate = limit.arguments(cost, now_us, "")
    tat = now = now_us * rate
    if kept is not None and kept[1] > now_us:
        fields = kept[0].split(" ")
        if len(fields) != 3 or fields[0] != texts.VERSION or fields[2] != str(rate) or not fields[1].isdecimal():
            return None
        if (told := int(fields[1])) > tat:
            tat = told
    full = now + tolerance
    writes: list[Write] = []
    if is_allowed := tat + increment <= full:
        tat += increment
        writes.append(Write(name, "tb", key, texts.flat(tat, rate), -(-tat // rate)))
    elif tat > full:  # the clock has stepped back, or more was charged
        return None
    facts = token_bucket.plain_facts(tat, now_us, arguments, is_allowed=is_allowed)
    return Decision(group, now_us, is_allowed, (facts,)), writes


def judge(group: Group, now_us: int, find: Find[P]) -> Verdict[P]:
    """Judge a group. Nothing is taken before its parts do their work."""
    hits, max_wait_us, action, once = group
    if action not in JUDGING:
        return _judge_other(group, now_us, find)
    marks: list[tuple[P, Work]] = []
    if once is not None:
        place, mark, known_until_us = find(hits[0].name, hits[0].limit, marked_key(hits[0].key, once.mark))
        if known_until_us > now_us and mark != MARK_PENDING:  # it has been charged
            answered = [(place, writing(MARK_ANSWERED, known_until_us, ()))] if mark == MARK else []
            return KNOWN, answered, judge(group._replace(action="peek", once=None), now_us, find)[2]
        marks = [(place, writing(MARK, now_us + once.life_us, ()))]
    allowed, judged = True, []
    for hit in hits:
        limit, key, name, cost, holder = hit[:5]
        place, state, until_us = find(name, limit, key)
        if until_us <= now_us:
            state = None
        fits, found = limit.algorithm.judge(state, now_us, limit.arguments(cost, now_us, holder), max_wait_us)
        if hit.spare > 0:
            is_left, wider = limit.algorithm.judge(state, now_us, limit.arguments(hit.needed, now_us, ""), max_wait_us)
            if not is_left:
                fits, found = False, wider
        allowed = allowed and fits
        judged.append((place, limit, found, fits))
    if allowed and action == "spend":
        return True, [(place, partial(limit.algorithm.spend, found)) for place, limit, found, _ in judged] + marks, ()
    if action == "spend":
        for one in judged:
            if one[1].algorithm is penalty:
                judged = _with_denials(judged)
                break
    facts = tuple([limit.algorithm.keep(found) for _, limit, found, _ in judged])
    parts: list[tuple[P, Work]] = []
    if action == "spend":
        for place, limit, found, _ in judged:
            repaired = limit.algorithm.repaired(found)
            if repaired is not None:
                parts.append((place, writing(*repaired, ())))
    return allowed, parts, facts


def _with_denials(judged: list[tuple[P, Limit, Any, bool]]) -> list[tuple[P, Limit, Any, bool]]:
    """The hits of a group that was denied, when its penalties have counted what they watch: the hits before each, back
    to the penalty before. Where a block denies, nothing is counted.
    """
    if not all(fits for _, limit, _, fits in judged if limit.algorithm is penalty):
        return judged
    counted, is_denied = [], False
    for place, limit, found, fits in judged:
        if limit.algorithm is not penalty:
            is_denied = is_denied or not fits
            counted.append((place, limit, found, fits))
        else:
            counted.append((place, limit, penalty.count(found) if is_denied else found, fits))
            is_denied = False
    return counted


def _judge_other(group: Group, now_us: int, find: Find[P]) -> Verdict[P]:
    if group.once is not None and group.once.takes_back:
        return _undo(group, group.once, now_us, find)
    limit, key, name, cost, holder, receipt = group.hits[0][:6]
    place, state, until_us = find(name, limit, key)
    if until_us <= now_us:
        state = None
    arguments = limit.arguments(cost, now_us, holder)
    algorithm = limit.algorithm
    allowed, marks = True, []
    if group.once is not None:
        mark, _, known_until_us = find(name, limit, marked_key(key, group.once.mark))
        if group.once.until_us <= now_us or known_until_us > now_us:
            return KNOWN, (), (algorithm.keep(algorithm.judge(state, now_us, arguments, 0)[1]),)
        marks = [(mark, writing(MARK, group.once.until_us, ()))]
    if group.action == "give_back":
        written = algorithm.give_back(state, now_us, arguments, receipt)
    elif group.action == "take":
        written = algorithm.take(state, now_us, arguments)
    elif group.action == "renew":
        allowed, written = algorithm.renew(state, now_us, arguments)
    else:
        written = None, 0, algorithm.keep(algorithm.judge(None, now_us, arguments, 0)[1])
    return allowed, [(place, writing(*written)), *marks], ()


def _undo(group: Group, once: Once, now_us: int, find: Find[P]) -> Verdict[P]:
    """Take back a spend together with its mark, if that is as it was left."""
    first = group.hits[0]
    mark_place, mark, known_until_us = find(first.name, first.limit, marked_key(first.key, once.mark))
    is_as_left = mark == MARK and known_until_us == once.until_us > now_us
    parts: list[tuple[P, Work]] = []
    facts: list[Facts] = []
    for limit, key, name, cost, holder, receipt, *_ in group.hits:
        place, state, until_us = find(name, limit, key)
        if until_us <= now_us:
            state = None
        arguments, algorithm = limit.arguments(cost, now_us, holder), limit.algorithm
        if is_as_left:
            parts.append((place, writing(*algorithm.give_back(state, now_us, arguments, receipt))))
        else:
            facts.append(algorithm.keep(algorithm.judge(state, now_us, arguments, 0)[1]))
    return (1, [*parts, (mark_place, writing(None, 0, ()))], ()) if is_as_left else (KNOWN, (), tuple(facts))


def writing(state: Any, until_us: int, facts: Facts) -> Work:
    """The work that writes this."""
    return lambda: (state, until_us, facts)

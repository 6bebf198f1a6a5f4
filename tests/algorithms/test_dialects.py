"""Python and Lua compute the same integers: whatever the limits, the times and the costs, the script in a real server
answers what the Python reference answers, and stores what it stores.

A schedule is played to the reference first, and then sent in one transaction, in which the server's own clock stands
still. So no key expires while the schedule lasts, and the expiry that each key was given can be read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.algorithms import MAX_SPAN_US, concurrency, sliding_log
from headgate.algorithms.token_bucket_notes import Notes
from headgate.hits import Action, Group
from headgate.limits import Penalty, SlidingLog, TokenBucket
from headgate.plans import redis as plans
from tests.algorithms.playing import MOST_CHARGED, Played, play
from tests.algorithms.reference import Address, Reference, address_of
from tests.algorithms.strategies import KINDS, START_US, Lane, Step, lanes, queues, span, steps
from tests.plans.fake_server import FakeServer, read_call
from tests.profiles import quickly

ALL_ACTIONS: tuple[Action, ...] = (
    "spend",
    "spend",
    "spend",
    "spend",
    "peek",
    "give_back",
    "give_back",
    "take",
    "renew",
    "forget",
)


@pytest.fixture
def server(valkey_url: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(valkey_url, decode_responses=True, protocol=2)
    with client:
        yield client


@st.composite
def schedules(
    draw: st.DrawFn, kinds: list[str], *, may_go_back: bool, most_limits: int = 3
) -> tuple[list[Lane], list[Step]]:
    among = draw(lanes(kinds=kinds, most_limits=most_limits))
    return among, draw(steps(among, actions=ALL_ACTIONS, may_go_back=may_go_back))


def flat(state: Any) -> Any:
    """A state of the reference as nested tuples of integers, and nothing for an empty one."""
    if isinstance(state, sliding_log.State):
        return (state.total, *state.hits()) if state.hits() else None
    if isinstance(state, concurrency.State):
        return tuple(sorted(state.slots.items())) or None
    return state


def stored(code: str, value: Any, expected: Any) -> Any:
    """A value of the server's in the same form. `expected` tells a bucket's rate where the value does without."""
    if not value:
        return None
    if code == "cc":
        return tuple(sorted((slot, int(expiry)) for slot, expiry in value))
    if code == "sl":
        return int(value[0]), *[tuple(map(int, entry.split(" "))) for entry in value[1:]]
    if code == "pn":
        return (int(value[0][1:]), ()) if value[0][0] == "=" else (0, tuple(map(int, value)))
    assert re.fullmatch(r"\d+( \d+)*", value), value
    numbers = list(map(int, value.split(" ")))
    if code != "tb":
        return tuple(numbers)
    if len(numbers) == 1:
        rate = expected[1] if expected else 1
        return numbers[0] * rate, rate, None
    q, r, rate, *noted = numbers
    if not noted:
        return q * rate + r, rate, None
    stamp_us, credited_q, credited_r, kept_until_us, waiting_until_us, count, *rest = noted
    spans = tuple(
        (begin_q * rate + begin_r, end_q * rate + end_r)
        for begin_q, begin_r, end_q, end_r in zip(*[iter(rest)] * 4, strict=True)
    )
    credited = credited_q * rate + credited_r
    notes = Notes(stamp_us, credited, kept_until_us, waiting_until_us, spans[:count], spans[count:])
    return q * rate + r, rate, notes


def owes(code: str, state: Any, now_us: int) -> bool:
    """Does a state say anything? A bucket's may be kept or dropped where nothing is owed, and nobody was credited."""
    if state is None or code != "tb":
        return state is not None
    tat, rate, notes = state
    return tat > now_us * rate or (notes is not None and notes.kept_until_us > now_us)


READ = {
    "tb": lambda pipe, key: pipe.get(key),
    "fw": lambda pipe, key: pipe.get(key),
    "sw": lambda pipe, key: pipe.get(key),
    "sl": lambda pipe, key: pipe.lrange(key, 0, -1),
    "cc": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    "pn": lambda pipe, key: pipe.lrange(key, 0, -1),
}


class Expectation(NamedTuple):
    """What the reference has come to, for one hit of a step."""

    address: Address
    state: Any
    expires_at: int | None


class Schedule:
    """Plays the same steps to the reference and to a server."""

    def __init__(self, server: Any, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._reference = Reference()
        self._pipe = server.pipeline(transaction=True)
        self._steps: list[tuple[Any, Played, list[Expectation]]] = []

    def play(self, among: list[Lane], drawn: list[Step]) -> None:
        """Step by step to the reference; the server's commands are collected."""
        self._pipe.time()
        keys = set()
        for played in play(among, drawn, self._reference, repeats=True):
            plan = plans.decide([played.group], prefix=self._prefix, near_us=played.now_us, now_us=played.now_us)
            script = next(plan)
            call = read_call(script.packed)
            self._pipe.execute_command("EVAL", script.text, len(call.keys), *call.keys, *call.words)
            expectations = []
            marks = 1 if played.group.once is not None else 0
            for key, hit in zip(call.keys, [*played.group.hits, *[None] * marks], strict=True):
                keys.add(key)
                if hit is None:
                    continue
                READ[hit.limit.code](self._pipe, key)
                self._pipe.pttl(key)
                address = address_of(hit)
                state, expires_at = self._reference.states.get(address), self._reference.expiries.get(address)
                expectations.append(Expectation(address, flat(state), expires_at))
            self._steps.append((plan, played, expectations))
        self._pipe.time()
        self._pipe.delete(*keys)

    def compare(self, *, with_expiry: bool) -> None:
        """Run it all on the server, and compare."""
        replies = iter(self._pipe.execute())
        began_us = _microseconds(next(replies))
        answers = []
        for plan, played, expectations in self._steps:
            with pytest.raises(StopIteration) as done:
                plan.send(next(replies))
            found = [(expected, next(replies), next(replies)) for expected in expectations]
            answers.append((done.value.value[0], played, found))
        ended_us = _microseconds(next(replies))
        for decision, played, found in answers:
            assert decision.allowed == played.decision.allowed, played
            assert decision.facts == played.decision.facts, played
            assert decision.group == played.decision.group, played
            assert decision.now_us == played.now_us
            for (address, state, expires_at), value, left_ms in found:
                code, now_us = address[2], played.now_us
                kept = stored(code, value, state)
                if not owes(code, state, now_us):
                    assert not owes(code, kept, now_us), played
                    continue
                assert kept == state, (kept, state, played)
                assert left_ms >= 0, played
                if with_expiry:
                    assert expires_at is not None
                    assert (ended_us // 1_000 + left_ms) * 1_000 > began_us + expires_at - now_us, played


def _microseconds(time: tuple[int, int]) -> int:
    return time[0] * 1_000_000 + time[1]


def compare(server: Any, prefix: str, among: list[Lane], drawn: list[Step], *, with_expiry: bool) -> None:
    schedule = Schedule(server, prefix)
    schedule.play(among, drawn)
    schedule.compare(with_expiry=with_expiry)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=quickly(60))
@given(data=st.data())
def test_an_algorithm_computes_the_same_integers_in_python_and_in_lua(
    server: Any, prefix: str, kind: str, data: st.DataObject
) -> None:
    among, drawn = data.draw(schedules([kind], may_go_back=True))
    compare(server, prefix, among, drawn, with_expiry=False)


@settings(max_examples=quickly(60))
@given(schedule=schedules(list(KINDS), may_go_back=True))
def test_groups_of_all_algorithms_are_decided_the_same_in_python_and_in_lua(
    server: Any, prefix: str, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, prefix, *schedule, with_expiry=False)


@given(queue=queues())
def test_those_who_wait_and_leave_meet_the_same_queue_in_python_and_in_lua(
    server: Any, prefix: str, queue: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, prefix, *queue, with_expiry=True)


@st.composite
def watched(draw: st.DrawFn, *, may_go_back: bool, most_limits: int = 2) -> tuple[list[Lane], list[Step]]:
    """Limits that deny often, and penalties that block soon."""
    short = st.integers(1, 12).map(span)
    limits = st.builds(TokenBucket, st.integers(1, 2), short) | st.builds(SlidingLog, st.integers(1, 2), short)
    penalties = st.builds(Penalty, st.integers(1, 4), st.integers(1, 60).map(span), st.integers(1, 60).map(span))
    among = []
    for number in range(draw(st.integers(1, 3))):
        among.append(Lane(f"limit {number}", [draw(limits)]))
        among.append(Lane(f"penalty {number}", draw(st.lists(penalties, min_size=1, max_size=most_limits))))
    actions: list[Action] = ["spend", "spend", "spend", "spend", "spend", "spend", "spend", "take", "peek", "give_back"]
    drawn = draw(steps(among, actions=actions, may_go_back=may_go_back, most=40))
    # In order, mostly: a penalty watches what stands before it.
    in_order = draw(st.lists(st.booleans() | st.just(True), min_size=len(drawn), max_size=len(drawn)))
    return among, [
        step._replace(lanes=sorted(step.lanes) if is_sorted else step.lanes, max_wait_us=0)
        for step, is_sorted in zip(drawn, in_order, strict=True)
    ]


@settings(max_examples=quickly(150))
@given(schedule=watched(may_go_back=True))
def test_denials_are_counted_and_block_the_same_in_python_and_in_lua(
    server: Any, prefix: str, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, prefix, *schedule, with_expiry=False)


@settings(max_examples=quickly(60))
@given(schedule=watched(may_go_back=False, most_limits=1))
def test_a_block_never_expires_before_it_is_over(
    server: Any, prefix: str, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, prefix, *schedule, with_expiry=True)


@st.composite
def batches(draw: st.DrawFn) -> list[Group]:
    """Groups that can be asked for all at once."""
    among = draw(lanes(kinds=["tb", *KINDS], most_limits=2))
    drawn = draw(steps(among, actions=("spend", "spend", "spend", "peek", "take", "forget"), may_go_back=False))
    return [played.group for played in play(among, drawn, Reference(), repeats=True)]


def test_debts_that_are_charged_without_end_stop_growing_in_python_and_in_lua(server: Any, prefix: str) -> None:
    limit = TokenBucket(1, span(MAX_SPAN_US), 1)
    lane = Lane("lane", [limit, TokenBucket(3, span(7), 1)])
    charges = [Step(0, "take", [0], number % 2, [MOST_CHARGED - 1], 0, 0) for number in range(12)]
    peeks = [Step(MAX_SPAN_US // 2, "peek", [0], 0, [1], 0, 0)]
    compare(server, prefix, [lane], charges + peeks, with_expiry=False)


@settings(max_examples=quickly(60))
@given(groups=batches())
def test_a_batch_is_judged_as_its_groups_would_be_one_after_the_other(
    server: Any, prefix: str, groups: list[Group]
) -> None:
    plan = plans.decide(groups, prefix=prefix, near_us=START_US, now_us=START_US)
    script = next(plan)
    call = read_call(script.packed)
    reply = server.eval(script.text, len(call.keys), *call.keys, *call.words)
    server.delete(*call.keys)
    reference, fake = Reference(), FakeServer()
    expected = [reference.decide(group, START_US) for group in groups]
    with pytest.raises(StopIteration) as done:
        plan.send(reply)
    assert [(decision.allowed, decision.facts) for decision in done.value.value] == [
        (decision.allowed, decision.facts) for decision in expected
    ]
    if plans.STRANGE not in reply:  # the fake server knows one way to judge a bucket
        assert fake.send(script.whole()) == reply


@settings(max_examples=quickly(60))
@given(schedule=schedules(["tb"], may_go_back=False, most_limits=2))
def test_a_single_hit_is_judged_on_the_fast_path_as_it_is_the_general_way(
    server: Any, prefix: str, schedule: tuple[list[Lane], list[Step]]
) -> None:
    """The fast path reads the server's clock, so each script is put on a clock of its own, in a future where no key
    expires while the test runs."""
    start_us = _microseconds(server.time()) + 86_400_000_000
    keys = set()
    for group, now_us, expected in play(*schedule, Reference(), repeats=True, start_us=start_us):
        plan = plans.decide([group], prefix=prefix, near_us=now_us)
        script = next(plan)
        call = read_call(script.packed)
        keys.update(call.keys)
        clock = f"local time = {{{now_us // 1_000_000}, {now_us % 1_000_000}}}"
        text = script.text.replace("local time = redis.call('TIME')", clock)
        reply = server.execute_command("EVAL", text, len(call.keys), *call.keys, *call.words)
        assert reply[0] == now_us
        with pytest.raises(StopIteration) as done:
            plan.send(reply)
        (decision,) = done.value.value
        assert (decision.allowed, decision.facts) == (expected.allowed, expected.facts)
    server.delete(*keys)


@settings(max_examples=quickly(100))
@given(schedule=schedules(list(KINDS), may_go_back=False, most_limits=1))
def test_a_key_never_expires_before_what_it_says_is_over(
    server: Any, prefix: str, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, prefix, *schedule, with_expiry=True)

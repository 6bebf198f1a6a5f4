"""Python and SQL compute the same integers: whatever the limits, the times and the costs, the functions in a real
server answer what the Python reference answers, and store what it stores, until the same instant.

Each schedule is played in a transaction that is rolled back. The functions are in a schema of their own, whose clock
the tests set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from psycopg import pq

from headgate.algorithms import MAX_SPAN_US
from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, Hit, SingleHit
from headgate.limits import TokenBucket
from headgate.plans import postgres as plans
from headgate.plans.postgres.packing import Terms
from headgate.plans.postgres.places import place_of
from headgate.plans.postgres.schema import TYPES, VERSION
from headgate.stores.postgres.entries import Columns, columns_of, state_of, text_of
from tests.algorithms.playing import MOST_CHARGED, Played, play
from tests.algorithms.reference import Reference, address_of
from tests.algorithms.strategies import KINDS, START_US, Lane, Step, lanes, queues, span, steps
from tests.algorithms.test_dialects import flat, owes, schedules, watched
from tests.profiles import quickly

SCHEMA = "headgate_dialect"
PREFIX = "dialect"
TERMS = Terms(PREFIX, 10_000)


@pytest.fixture(scope="module")
def server(postgres_url: str) -> Iterator[Any]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(plans.schema_text(SCHEMA))
        connection.execute(
            f"create or replace function {SCHEMA}.clock_v{VERSION}() returns bigint language sql "
            "as $$ select current_setting('headgate.now')::bigint $$"
        )
        yield connection
        connection.execute(f"drop schema {SCHEMA} cascade")


def refused(text: str) -> StoreOutage:
    return StoreUnavailable("postgresql", text)


def decide(server: Any, groups: Sequence[Group], now_us: int, *, by_own_clock: bool = False) -> list[Answer]:
    """Judge groups at an instant: told in the call, or what the server's clock says."""
    plan = plans.decide(groups, TERMS, near_us=now_us, now_us=None if by_own_clock else now_us, refused=refused)
    return carry_out(server, plan, now_us)


def carry_out(server: Any, plan: Any, now_us: int) -> list[Answer]:
    server.execute("select set_config('headgate.now', %s, false)", [str(now_us)])
    try:
        command = next(plan)
        while True:
            assert isinstance(command, plans.Query)
            types = TYPES[command.function]
            result = server.pgconn.exec_params(
                plans.statement(SCHEMA, command.function), command.parameters, types, [1] * len(types), 1
            )
            assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message.decode()
            command = plan.send(result.get_value(0, 0))
    except StopIteration as done:
        answers: list[Answer] = done.value
        return answers


def stored(server: Any, hit: Hit) -> tuple[Columns | None, int]:
    """What is stored for a hit, and until when."""
    row = server.execute(
        "select until_us, a, b, c, array_to_json(numbers), array_to_json(notes), array_to_json(names) "
        f"from {SCHEMA}.state where place = %s and until_us > 0",
        [place_of(PREFIX, hit.name, hit.limit.code, hit.key)],
    ).fetchone()
    return (None, 0) if row is None else (Columns._make(row[1:]), row[0])


def compare(server: Any, among: list[Lane], drawn: list[Step], *, by_own_clock: bool = False) -> None:
    reference = Reference()
    with server.transaction(force_rollback=True):
        for played in play(among, drawn, reference, repeats=True):
            (decision,) = decide(server, [played.group], played.now_us, by_own_clock=by_own_clock)
            assert isinstance(decision, Decision)
            assert decision.allowed == played.decision.allowed, played
            assert decision.facts == played.decision.facts, played
            assert decision.group == played.decision.group, played
            assert decision.now_us == played.now_us
            for hit in played.group.hits:
                compare_stored(server, reference, hit, played)


def compare_stored(server: Any, reference: Reference, hit: Hit, played: Played) -> None:
    address, code = address_of(hit), hit.limit.code
    expected = reference.states.get(address)
    columns, until_us = stored(server, hit)
    kept = None if columns is None else state_of(code, columns)
    if not owes(code, flat(expected), played.now_us):
        assert not owes(code, flat(kept), played.now_us), played
        return
    assert columns is not None, played
    assert flat(kept) == flat(expected), played
    if code not in ("sl", "cc"):  # what is changed in place has no instant of its own
        assert until_us == reference.expiries[address], played
    carried = columns_of(code, hit.key, text_of(code, hit.key, columns))
    assert flat(state_of(code, carried)) == flat(expected), played


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=quickly(60))
@given(data=st.data())
def test_an_algorithm_computes_the_same_integers_in_python_and_in_sql(
    server: Any, kind: str, data: st.DataObject
) -> None:
    compare(server, *data.draw(schedules([kind], may_go_back=True)))


@settings(max_examples=quickly(60))
@given(schedule=schedules(list(KINDS), may_go_back=True))
def test_groups_of_all_algorithms_are_decided_the_same_in_python_and_in_sql(
    server: Any, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, *schedule)


@settings(max_examples=quickly(60))
@given(queue=queues())
def test_those_who_wait_and_leave_meet_the_same_queue_in_python_and_in_sql(
    server: Any, queue: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, *queue)


@settings(max_examples=quickly(100))
@given(schedule=watched(may_go_back=True))
def test_denials_are_counted_and_block_the_same_in_python_and_in_sql(
    server: Any, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, *schedule)


@settings(max_examples=quickly(60))
@given(schedule=schedules(["tb"], may_go_back=True, most_limits=2))
def test_a_single_hit_is_judged_on_the_fast_path_as_it_is_the_general_way(
    server: Any, schedule: tuple[list[Lane], list[Step]]
) -> None:
    compare(server, *schedule, by_own_clock=True)


def test_debts_that_are_charged_without_end_stop_growing_in_sql(server: Any) -> None:
    lane = Lane("lane", [TokenBucket(1, span(MAX_SPAN_US), 1), TokenBucket(3, span(7), 1)])
    charges = [Step(0, "take", [0], number % 2, [MOST_CHARGED - 1], 0, 0) for number in range(12)]
    peeks = [Step(MAX_SPAN_US // 2, "peek", [0], 0, [1], 0, 0)]
    compare(server, [lane], charges + peeks)


@st.composite
def batches(draw: st.DrawFn, kinds: Sequence[str], actions: Sequence[Any]) -> list[Group]:
    """Groups that can be asked for all at once."""
    among = draw(lanes(kinds=kinds, most_limits=2))
    drawn = draw(steps(among, actions=actions, may_go_back=False))
    return [played.group for played in play(among, drawn, Reference(), repeats=True)]


def assert_as_one_after_the_other(server: Any, groups: list[Group], *, by_own_clock: bool) -> None:
    reference = Reference()
    expected = [reference.decide(group, START_US) for group in groups]
    with server.transaction(force_rollback=True):
        answers = decide(server, groups, START_US, by_own_clock=by_own_clock)
        assert [(answer.allowed, answer.facts) for answer in answers if isinstance(answer, Decision)] == [
            (decision.allowed, decision.facts) for decision in expected
        ]


@settings(max_examples=quickly(60))
@given(groups=batches(["tb", *KINDS], ("spend", "spend", "spend", "peek", "take", "forget")))
def test_a_batch_is_judged_as_its_groups_would_be_one_after_the_other(server: Any, groups: list[Group]) -> None:
    assert_as_one_after_the_other(server, groups, by_own_clock=False)


@st.composite
def hot_batches(draw: st.DrawFn) -> list[Group]:
    """Single hits on some buckets, many on each."""
    among = draw(lanes(kinds=["tb"], most_limits=1))
    limits = {lane.name: lane.limits[0] for lane in among}
    costs = {name: draw(st.integers(1, min(3, limit.capacity))) for name, limit in limits.items()}
    names = draw(st.lists(st.sampled_from(sorted(limits)), min_size=1, max_size=40))
    return [Group((Hit(limits[name], "key", name, costs[name]),)) for name in names]


@settings(max_examples=quickly(60))
@given(groups=hot_batches())
def test_many_hits_on_one_bucket_are_judged_as_they_would_be_one_after_the_other(
    server: Any, groups: list[Group]
) -> None:
    assert_as_one_after_the_other(server, groups, by_own_clock=True)


@settings(max_examples=quickly(60))
@given(data=st.data())
def test_hits_that_differ_in_their_keys_alone_are_judged_as_they_would_be_one_after_the_other(
    server: Any, data: st.DataObject
) -> None:
    (lane,) = data.draw(lanes(kinds=["tb"], most_limits=2, most_lanes=1))
    limit = lane.limits[0]
    single = SingleHit(limit, lane.name, data.draw(st.integers(1, min(3, limit.capacity))))
    keys = data.draw(st.lists(st.sampled_from(["a", "b", "c:d", "é"]), min_size=2, max_size=40))
    before = data.draw(st.sampled_from(lane.limits))
    charge = Group((Hit(before, "a", lane.name, data.draw(st.integers(1, before.capacity))),), 0, "take")
    assume(plans.is_alike(single))
    reference = Reference()
    with server.transaction(force_rollback=True):
        if data.draw(st.booleans()):
            reference.decide(charge, START_US)
            decide(server, [charge], START_US)
        expected = [reference.decide(single.group(key), START_US) for key in keys]
        answers = carry_out(server, plans.decide_alike(single, keys, TERMS, refused=refused), START_US)
        assert [(answer.key, answer.allowed, answer.facts) for answer in answers if isinstance(answer, Decision)] == [
            (decision.key, decision.allowed, decision.facts) for decision in expected
        ]

"""A clock that steps back: nobody is locked out of a token bucket for longer than it takes to fill it, and no more is
admitted than in the time that has really passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Decision, Limiter, ManualClock, MemoryStore, TokenBucket
from headgate.hits import Group, Hit
from headgate.keys import storage_key
from headgate.plans import redis as plans
from headgate.stores.redis import RedisStore
from tests.algorithms.playing import play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import Lane, Step, lanes, steps, token_buckets
from tests.algorithms.test_promises import assert_bounded
from tests.plans.fake_server import read_call
from tests.profiles import quickly
from tests.servers import store_by_clock

HOUR_S, HOUR_US = 3_600, 3_600_000_000
LIMIT = TokenBucket(10, per=60)


@pytest.fixture(params=["memory", "valkey"])
def limiter(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> Iterator[Limiter]:
    clock = ManualClock()
    store = store_by_clock(request.param, valkey_url, prefix, clock)
    limiter = Limiter(LIMIT, store=store, name="n", on_outage="raise")
    limiter.clock = clock  # type: ignore[attr-defined]
    yield limiter
    store.close()


def clock_of(limiter: Any) -> ManualClock:
    clock: ManualClock = limiter.clock
    return clock


@pytest.mark.parametrize("cost", [1, 10])
def test_after_an_hour_back_a_bucket_is_full_again_in_its_own_time(limiter: Limiter, cost: int) -> None:
    limiter.try_acquire("k", 10)
    clock_of(limiter).advance(seconds=-HOUR_S)
    denied = limiter.try_acquire("k", cost)
    assert (denied.allowed, denied.retry_after) == (False, 6 * cost)
    clock_of(limiter).advance(seconds=6 * cost)
    assert limiter.try_acquire("k", cost)
    clock_of(limiter).advance(seconds=60 - 6 * cost)
    assert limiter.peek("k").remaining == (9 if cost == 1 else 0)


def test_the_hour_is_forgiven_once_and_not_at_each_question(limiter: Limiter) -> None:
    limiter.try_acquire("k", 10)
    clock_of(limiter).advance(seconds=-HOUR_S)
    answers = []
    for _ in range(6):
        answers.append(limiter.try_acquire("k", 5).allowed)
        clock_of(limiter).advance(seconds=6)
    assert answers == [False] * 5 + [True]


def test_a_group_that_is_denied_mends_the_bucket_concerned_and_spends_nothing(valkey_url: str, prefix: str) -> None:
    for kind in ("memory", "valkey"):
        clock = ManualClock()
        store = store_by_clock(kind, valkey_url, prefix, clock)
        group = Limiter({"a": "10/minute", "b": "10/minute"}, store=store, name="n", on_outage="raise")
        keys = {"a": "k", "b": "k"}
        group.try_acquire(keys, {"a": 10, "b": 0})
        clock.advance(seconds=-HOUR_S)
        assert group.try_acquire(keys).retry_after == 6
        clock.advance(seconds=6)
        assert group.try_acquire(keys)
        assert group.peek(keys, {"a": 0, "b": 9})
        assert not group.peek(keys, {"a": 0, "b": 10})
        store.close()


def test_what_was_charged_beyond_the_limit_is_owed_still_and_no_longer_than_that(limiter: Limiter) -> None:
    limiter.settle(limiter.try_acquire("k"), 25)
    assert limiter.peek("k").retry_after == 96
    clock_of(limiter).advance(seconds=-HOUR_S)
    assert limiter.try_acquire("k").retry_after == 96
    clock_of(limiter).advance(seconds=95)
    assert not limiter.try_acquire("k")
    clock_of(limiter).advance(seconds=1)
    assert limiter.try_acquire("k")


def test_who_waits_keeps_its_turn_and_its_place_can_come_back() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)

    def ask(max_wait_us: int) -> Decision:
        return store.decide([Group((Hit(TokenBucket(1), "k", "n"),), max_wait_us)])[0]

    _, *queue = [ask(HOUR_US) for _ in range(4)]
    assert [one.wait_us for one in queue] == [1_000_000, 2_000_000, 3_000_000]
    clock.advance(seconds=-HOUR_S)
    assert ask(HOUR_US).wait_us == 4_000_000
    (hit,), (facts,) = queue[1].group.hits, queue[1].facts
    store.decide([Group((hit._replace(receipt=hit.limit.receipt(facts, 1)),), 0, "give_back")])
    assert ask(HOUR_US).wait_us == 2_000_000


@pytest.mark.parametrize("may_wait", [False, True])
@settings(max_examples=quickly(100))
@given(data=st.data())
def test_never_is_more_admitted_than_in_the_time_that_has_really_passed(may_wait: bool, data: st.DataObject) -> None:
    """Those who wait sleep by a clock of their own. Where the store's steps back before anybody has written, it cannot
    tell, and a turn that it tells later comes later by as much.
    """
    limit = data.draw(token_buckets())
    drawn = data.draw(
        steps([Lane("lane", [limit])], actions=("spend", "spend", "spend", "give_back"), may_go_back=True, most=40)
    )
    if not may_wait:
        drawn = [step._replace(max_wait_us=0) for step in drawn]
    back_us = sum(-step.move_us for step in drawn if step.move_us < 0)
    costs: dict[str, int] = {}
    turns: dict[str, int] = {}
    passed_us, before_us = 0, None
    for group, now_us, decision in play([Lane("lane", [limit])], drawn, Reference(), refunds_once=True):
        passed_us += max(0, now_us - (now_us if before_us is None else before_us))
        before_us = now_us
        (hit,) = group.hits
        if group.action == "give_back":
            costs[hit.holder] -= hit.cost
        elif decision.allowed:
            costs[hit.holder], turns[hit.holder] = hit.cost, passed_us + decision.wait_us
    admitted = sorted((turns[holder], cost) for holder, cost in costs.items() if cost > 0)
    slack_us = back_us if may_wait else 0
    assert_bounded(admitted, limit.period_us, limit.capacity, limit.rate, slack_us=slack_us)


# By the server's own clock. That cannot be set, so what was stored in a later hour is put there.


@pytest.fixture
def server(valkey_url: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(valkey_url, decode_responses=True, protocol=2)
    with client:
        yield client


@pytest.mark.parametrize("limit", [TokenBucket(1, per=60), TokenBucket(7, per=60)], ids=str)
@pytest.mark.parametrize("together", [False, True])
def test_a_server_whose_clock_stepped_back_forgives_at_once(
    server: Any, valkey_url: str, prefix: str, limit: TokenBucket, together: bool
) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=20, remember_denials=0)
    limiter = Limiter(limit, store=store, name="n", on_outage="raise")
    seconds, microseconds = server.time()
    at_us = seconds * 1_000_000 + microseconds + HOUR_US
    for key in "ab":
        stored = str(at_us) if limit.rate == 1 else f"{at_us} 3 {limit.arguments(1, 0, '')[2]}"
        server.set(storage_key(prefix, key, "n", "tb"), stored, px=2 * HOUR_S * 1_000)
    if together:
        groups = [limiter._policy.group(key) for key in ("a", "c", "b", "c")]
        answers = store.decide(groups)
        assert [one.allowed for one in answers] == [False, True, False, limit.rate > 1]
        waits_us = [answers[0].retry_after_us, answers[2].retry_after_us]
    else:
        waits_us = [limiter.try_acquire(key).retry_after_us for key in "ab"]
    assert waits_us == [-(-60_000_000 // limit.rate)] * 2
    for key in "ab":
        later = limiter.try_acquire(key).retry_after_us
        assert 0 < later < waits_us[0]  # written, and time goes on
    store.close()


@settings(max_examples=quickly(60))
@given(data=st.data())
def test_the_fast_path_mends_as_the_general_way_does(server: Any, prefix: str, data: st.DataObject) -> None:
    """Each script is put on a clock of its own, in a future where no key expires while the test runs."""
    among = data.draw(lanes(kinds=["tb"], most_limits=2))
    drawn: list[Step] = data.draw(steps(among, actions=("spend", "spend", "take"), may_go_back=True))
    drawn = [step._replace(move_us=step.move_us % HOUR_US * (-1 if step.move_us < 0 else 1)) for step in drawn]
    seconds, _ = server.time()
    start_us = seconds * 1_000_000 + 10 * 24 * HOUR_US
    keys = set()
    for group, now_us, expected in play(among, drawn, Reference(), start_us=start_us):
        plan = plans.decide([group], prefix=prefix, near_us=now_us)
        script = next(plan)
        call = read_call(script.packed)
        keys.update(call.keys)
        clock = f"local time = {{{now_us // 1_000_000}, {now_us % 1_000_000}}}"
        text = script.text.replace("local time = redis.call('TIME')", clock)
        reply = server.execute_command("EVAL", text, len(call.keys), *call.keys, *call.words)
        with pytest.raises(StopIteration) as done:
            plan.send(reply)
        (decision,) = done.value.value
        assert (decision.allowed, decision.facts) == (expected.allowed, expected.facts)
    server.delete(*keys)

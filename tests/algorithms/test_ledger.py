"""What a token bucket owes is what a ledger says, kept in fractions: each hit, and what time has not paid of it yet.
Time pays the hits in order; what is given back is the hit's unpaid rest, or a part of it; what is charged comes at the
end.

That holds for any order of spending, giving back and settling, as long as nobody waits. Where somebody does, nothing is
lost but what time passes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Limiter, ManualClock, MemoryStore, TokenBucket
from headgate.algorithms import token_bucket_notes
from headgate.decision import Decision
from headgate.hits import Group, Hit
from headgate.plans import redis as plans
from tests.algorithms.playing import play
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import START_US, Lane, Step, queues, span
from tests.plans.fake_server import read_call
from tests.profiles import quickly
from tests.servers import store_by_clock

PLANS, TOGETHER, ROUNDS = 10_000, 500, 24


class Ledger:
    """What is owed to a bucket."""

    def __init__(self, limit: TokenBucket, now_us: int) -> None:
        self._per_us = Fraction(limit.rate, limit.period_us)
        self._burst = limit.capacity
        self._now_us = now_us
        self._unpaid: dict[int, Fraction] = {}
        self._charges = 0
        self.owed = Fraction()

    def pass_time(self, now_us: int) -> None:
        earned = (now_us - self._now_us) * self._per_us
        self._now_us = now_us
        for number in list(self._unpaid):
            if earned == 0:
                break
            earned -= self._pay(number, earned)

    def _pay(self, number: int, most: Fraction) -> Fraction:
        paid = min(self._unpaid[number], most)
        self.owed -= paid
        self._unpaid[number] -= paid
        if self._unpaid[number] == 0:
            del self._unpaid[number]
        return paid

    def admits(self, cost: int) -> bool:
        return self.owed + cost <= self._burst

    def charge(self, cost: int) -> int:
        self._charges += 1
        self._unpaid[self._charges] = Fraction(cost)
        self.owed += cost
        return self._charges

    def give_back(self, number: int, cost: int) -> None:
        if number in self._unpaid:
            self._pay(number, Fraction(cost))


class Plan:
    """One key, its limit and its ledger, and at each round something to do with it."""

    def __init__(self, number: int, random: Random) -> None:
        rate, period_us = random.choice([1, 3, 7, 60, 997]), random.choice([1, 7, 1_000, 333_333, 10_000_000])
        self.limit = TokenBucket(rate, span(period_us), random.choice([1, 2, 5, 10, 100]))
        self.key = f"plan {number}"
        self._random = random
        self._ledger = Ledger(self.limit, START_US)
        self._spent: list[tuple[Hit, int]] = []

    def next(self) -> Group:
        """What to do now."""
        random = self._random
        hit = Hit(self.limit, self.key, "name", random.randint(1, self.limit.capacity))
        self._settles: tuple[int, int] | None = None
        chance = random.random()
        if chance < 0.45 or not self._spent:
            return Group((hit._replace(cost=random.randint(0, hit.cost)),))
        if chance < 0.5:
            return Group((hit,), 0, "peek")
        spent, number = self._spent.pop(random.randrange(len(self._spent)))
        if chance < 0.9:
            cost = spent.cost if chance < 0.7 else random.randint(0, spent.cost)
            self._settles = number, cost
            return Group((spent._replace(cost=cost),), 0, "give_back")
        return Group((hit._replace(cost=random.choice([1, 1, hit.cost, 3 * self.limit.capacity])),), 0, "take")

    def check(self, group: Group, decision: Decision) -> None:
        """Is the answer what the ledger says?"""
        (hit,), (facts,), ledger = group.hits, decision.facts, self._ledger
        ledger.pass_time(decision.now_us)
        if group.action == "give_back":
            assert self._settles is not None
            ledger.give_back(*self._settles)
        elif group.action == "take":
            ledger.charge(hit.cost)
        else:
            assert decision.allowed == ledger.admits(hit.cost), (group, decision)
            if decision.allowed and group.action == "spend":
                number = ledger.charge(hit.cost)
                self._spent.append((hit._replace(receipt=hit.limit.receipt(facts, hit.cost)), number))
        token = self.limit.arguments(1, 0, "")[0]
        assert Fraction(facts[0], token) == ledger.owed, (group, decision)


@pytest.fixture
def server(valkey_url: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(valkey_url, decode_responses=True, protocol=2)
    with client:
        yield client


def test_what_is_left_is_what_a_ledger_says_in_memory_and_on_a_server(server: Any, prefix: str) -> None:
    """All the batches of some plans go in one transaction, in which the server's clock stands still: no key expires."""
    for first in range(0, PLANS, TOGETHER):
        random = Random(first)
        clock = ManualClock(START_US)
        store = MemoryStore(clock)
        among = [Plan(first + number, random) for number in range(TOGETHER)]
        pipe = server.pipeline(transaction=True)
        rounds, keys = [], set()
        for _ in range(ROUNDS):
            clock.advance(
                microseconds=random.choice([0, 0, 1, 2, random.randint(0, 1_000), 10 ** random.randint(1, 7)])
            )
            groups = [plan.next() for plan in among]
            decisions = store.decide(groups)
            for plan, group, decision in zip(among, groups, decisions, strict=True):
                plan.check(group, decision)
            asking = plans.decide(groups, prefix=prefix, near_us=clock(), now_us=clock())
            script = next(asking)
            call = read_call(script.packed)
            keys.update(call.keys)
            pipe.execute_command("EVAL", script.text, len(call.keys), *call.keys, *call.words)
            rounds.append((asking, decisions))
        pipe.delete(*keys)
        for (asking, decisions), reply in zip(rounds, pipe.execute(), strict=False):
            with pytest.raises(StopIteration) as done:
                asking.send(reply)
            assert [(one.allowed, one.facts) for one in done.value.value] == [
                (one.allowed, one.facts) for one in decisions
            ]


# While somebody waits


@settings(max_examples=quickly(200))
@given(queue=queues(), looks=st.lists(st.booleans(), min_size=40, max_size=40))
def test_what_becomes_of_a_queue_does_not_depend_on_who_looks_at_it(
    queue: tuple[list[Lane], list[Step]], looks: list[bool]
) -> None:
    """Here, to look is to write the state as it has become: a charge of nothing does."""
    once, often = Reference(), Reference()
    for (group, now_us, decision), looks_now in zip(play(*queue, once, refunds_once=True), looks, strict=False):
        charge = Group((group.hits[0]._replace(cost=0),), 0, "take")
        before_us = max(1, now_us - 1)
        if looks_now and before_us > getattr(often, "last_us", 0):
            often.decide(charge, before_us)
        again = often.decide(group, now_us)
        often.last_us = now_us  # type: ignore[attr-defined]
        assert (again.allowed, again.wait_us, again.facts[0][0]) == (
            decision.allowed,
            decision.wait_us,
            decision.facts[0][0],
        )


class Bucket:
    """A bucket whose tokens take a second each."""

    def __init__(self, burst: int) -> None:
        self._limit = TokenBucket(1, per=1, burst=burst)
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)

    def ask(self, cost: int = 1, wait_s: int = 0) -> Decision:
        return self.store.decide([Group((Hit(self._limit, "k", "n", cost),), wait_s * 1_000_000)])[0]

    def give_back(self, decision: Decision, cost: int | None = None, *, only_as_last: bool = False) -> None:
        (hit,), (facts,) = decision.group.hits, decision.facts
        receipt = *hit.limit.receipt(facts, hit.cost)[:2], only_as_last
        given = hit._replace(cost=hit.cost if cost is None else cost, receipt=receipt)
        self.store.decide([Group((given,), 0, "give_back")])

    def wait_s(self, cost: int = 1) -> float:
        return self.ask(cost).retry_after


def test_what_a_hit_gives_back_whose_turn_has_come_is_there_for_the_next_while_others_wait() -> None:
    bucket = Bucket(burst=10)
    early, _ = bucket.ask(5), bucket.ask(5)
    assert bucket.ask(1, wait_s=100).wait_us == 1_000_000
    bucket.give_back(early)
    assert bucket.ask(5)  # without it, six seconds
    assert bucket.wait_s(1) == 2


def test_a_vacancy_is_taken_in_parts() -> None:
    bucket = Bucket(burst=4)
    first = bucket.ask(4)
    assert bucket.ask(4, wait_s=100).wait_us == 4_000_000
    bucket.give_back(first)
    assert [bool(bucket.ask(cost)) for cost in (1, 2, 2, 1, 1)] == [True, True, False, True, False]


def test_places_that_are_given_back_side_by_side_are_one_vacancy() -> None:
    bucket = Bucket(burst=2)
    bucket.ask(2)
    queue = [bucket.ask(1, wait_s=100) for _ in range(4)]
    assert [decision.wait_us for decision in queue] == [1_000_000, 2_000_000, 3_000_000, 4_000_000]
    bucket.give_back(queue[2])
    bucket.give_back(queue[1])
    assert bucket.ask(2, wait_s=100).wait_us == 3_000_000


def test_what_nobody_took_while_others_waited_is_back_when_the_last_turn_has_come() -> None:
    bucket = Bucket(burst=2)
    bucket.ask(2)
    queue = [bucket.ask(1, wait_s=100) for _ in range(3)]
    bucket.give_back(queue[1])
    assert bucket.wait_s(2) == 4  # not five: from the third second on, nobody waits
    bucket.clock.advance(microseconds=3_999_999)
    assert not bucket.ask(2)
    bucket.clock.advance(microseconds=1)
    assert bucket.ask(2)


def test_a_bucket_is_as_if_nobody_had_waited_when_all_have_left() -> None:
    bucket = Bucket(burst=3)
    first, _ = bucket.ask(1), bucket.ask(2)
    queue = [bucket.ask(2, wait_s=100) for _ in range(5)]
    bucket.give_back(first)
    for place in (3, 0, 4, 2, 1):
        bucket.give_back(queue[place])
    assert bucket.ask(1)
    assert bucket.wait_s(1) == 1


def test_where_tokens_are_leased_nothing_moves() -> None:
    bucket = Bucket(burst=4)
    first, _ = bucket.ask(2), bucket.ask(2)
    queue = [bucket.ask(1, wait_s=100) for _ in range(3)]
    bucket.give_back(first, only_as_last=True)
    assert bucket.wait_s() == 4  # its turn had come: nothing comes back
    bucket.give_back(queue[1], only_as_last=True)
    assert bucket.wait_s() == 2  # its turn has not
    bucket.clock.advance(seconds=3)
    assert bucket.ask(1)  # the vacancy is there until time passes over it, and is not closed up meanwhile
    assert bucket.wait_s() == 1


@pytest.mark.parametrize("kind", ["memory", "valkey"])
def test_an_underestimate_does_not_lose_what_others_give_back(kind: str, valkey_url: str, prefix: str) -> None:
    left = []
    for order in ("ab", "ba"):
        store = store_by_clock(kind, valkey_url, f"{prefix}-{order}", ManualClock())
        limiter = Limiter("60_000/minute", store=store, name="llm", on_outage="raise")
        decisions = {name: limiter.try_acquire("t", 30_000) for name in "ab"}
        for name in order:
            limiter.settle(decisions[name], actual={"a": 30_001, "b": 1}[name])
        peeked = limiter.peek("t")
        left.append((peeked.remaining, peeked.reset_after))
        store.close()
    assert left == [(29_998, 30.002)] * 2


def test_refunds_in_the_order_of_the_hits_leave_nothing_owed() -> None:
    bucket = Limiter("3/second", store=MemoryStore(ManualClock()))
    decisions = [bucket.try_acquire("k") for _ in range(3)]
    for decision in decisions[:2]:
        bucket.refund(decision)
    assert bucket.try_acquire("k", 2)


def test_more_than_can_be_remembered_is_given_back_in_part_and_never_too_much() -> None:
    bucket = Bucket(burst=1_000)
    decisions = [bucket.ask() for _ in range(400)]
    for decision in decisions[1::2]:
        bucket.give_back(decision)
    for decision in decisions[::2]:
        bucket.give_back(decision)
    (table,) = bucket.store._tables.all()
    state, _ = table.find(table.entries["k"])
    assert state is None or len(state[2].returned) <= token_bucket_notes.MAX_SPANS
    left = bucket.store.decide([Group((Hit(bucket._limit, "k", "n", 0),), 0, "peek")])[0].remaining
    assert 900 < left <= 1_000

"""A decision: what it says of itself, computed exactly when it is asked."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import Decision, FixedWindow, InvalidUse, Lease, Limit, Limiter, ManualClock, MemoryStore, TokenBucket
from headgate.algorithms import Facts
from headgate.decision import undecided
from headgate.denials import DenialMemory
from headgate.hits import Group, Hit
from headgate.lease import Draw, Leases


class Told(Limit):
    """A limit of 10 whose facts are what it will say of them: `(remaining, retry_after_us, reset_after_us)`."""

    code: ClassVar[str] = "told"
    __slots__ = ()

    def __init__(self) -> None:
        self._freeze(rate=10, period_us=60_000_000, capacity=10, _text="told")

    def arguments(self, cost: int, now_us: int, holder: str) -> tuple[Any, ...]:
        return ()

    def receipt(self, facts: Facts, cost: int) -> None:
        return None

    def remaining(self, facts: Facts, now_us: int) -> int:
        return facts[0]

    def retry_after_us(self, facts: Facts, now_us: int, cost: int) -> int:
        return facts[1]

    def reset_after_us(self, facts: Facts, now_us: int) -> int:
        return facts[2]

    def wait_us(self, facts: Facts) -> int:
        return facts[1]


def decision(*hits: tuple[Hit, Facts], allowed: bool = True, max_wait_us: int = 0) -> Decision:
    group = Group(tuple(hit for hit, _ in hits), max_wait_us)
    return Decision(group, 1_000_000, allowed, tuple(facts for _, facts in hits))


def hit(name: str, cost: int = 1, tier: str = "", key: str = "k") -> Hit:
    return Hit(Told(), key, name, cost, "", None, tier)


def facts(spent: int, wait_us: int = 0) -> Facts:
    """What is told of a limit of 10 of which some has been spent, at 6 s each."""
    return 10 - spent, wait_us, spent * 6_000_000


def test_a_decision_is_true_when_allowed() -> None:
    assert decision((hit("a"), facts(1)))
    assert not decision((hit("a"), facts(10, 6_000_000)), allowed=False)
    assert bool(decision((hit("a"), facts(10)))) is True


def test_times_are_whole_microseconds_and_seconds_beside_them() -> None:
    denied = decision((hit("a", 3), facts(9, 12_345_678)), allowed=False)
    assert (denied.retry_after_us, denied.retry_after) == (12_345_678, 12.345678)
    assert (denied.reset_after_us, denied.reset_after) == (54_000_000, 54.0)
    assert type(denied.retry_after_us) is int
    assert denied.wait_us == 0


def test_what_was_allowed_need_not_be_tried_again() -> None:
    allowed = decision((hit("a"), facts(3)))
    assert (allowed.retry_after_us, allowed.retry_after) == (0, 0.0)
    assert allowed.remaining == 7


def test_the_limit_nearest_to_denying_binds_an_allowed_group() -> None:
    group = decision((hit("a", key="1"), facts(3)), (hit("b", key="2"), facts(8)), (hit("c", key="3"), facts(5)))
    assert (group.binding, group.key, group.remaining) == ("b", "2", 2)
    tie = decision((hit("a"), facts(3)), (hit("b"), facts(3)))
    assert tie.binding == "a"


def test_the_limit_to_wait_for_longest_binds_a_denied_group() -> None:
    group = decision((hit("a"), facts(10, 1)), (hit("b", 4), facts(9, 18_000_000)), (hit("c"), facts(0)), allowed=False)
    assert (group.binding, group.cost, group.retry_after_us) == ("b", 4, 18_000_000)


def test_a_tier_goes_by_what_users_call_it() -> None:
    tiered = decision((hit("api.user", tier="user"), facts(1)))
    assert tiered.binding == "user"
    assert "binding='user'" in repr(tiered)
    assert tiered.headers("draft-11")["RateLimit"].startswith('"user";')


def test_a_wait_is_what_the_slowest_limit_needs() -> None:
    waiting = decision((hit("a"), facts(10, 12_000_000)), (hit("b"), facts(10, 18_000_000)), max_wait_us=60_000_000)
    assert waiting.allowed
    assert waiting.wait_us == 18_000_000


def test_a_decision_that_the_store_did_not_make_has_no_facts() -> None:
    group = Group((hit("a"), hit("b")))
    for allowed, source in ((True, "fail_open"), (False, "fail_closed")):
        made = Decision(group, 0, allowed, (), source)  # type: ignore[arg-type]
        assert made.source == source
        assert (made.binding, made.remaining, made.reset_after_us, made.wait_us) == ("a", 0, 0, 0)
        assert made.retry_after_us == (0 if allowed else 1_000_000)
        assert f"source={source}" in repr(made)
        assert "X-RateLimit-Limit" in made.headers()


@pytest.mark.parametrize("style", ["legacy", "draft-6", "draft-7", "draft-11"])
def test_headers_of_every_style_say_when_to_come_back(style: Any) -> None:
    denied = decision((hit("api", 3), facts(9, 12_000_001)), allowed=False)
    assert denied.headers(style)["Retry-After"] == "13"
    assert "Retry-After" not in decision((hit("api"), facts(9))).headers(style)


def test_a_decision_can_be_claimed_once() -> None:
    made = decision((hit("a"), facts(1)))
    made.claim()
    with pytest.raises(InvalidUse, match="refunded or settled before: its tokens can come back only once"):
        made.claim()


def test_of_many_threads_one_claims_a_decision() -> None:
    for _ in range(20):
        made = decision((hit("a"), facts(1)))
        start = threading.Barrier(6)
        claimed: list[int] = []

        def claim(made: Decision = made, start: threading.Barrier = start, claimed: list[int] = claimed) -> None:
            start.wait()
            try:
                made.claim()
                claimed.append(1)
            except InvalidUse:
                pass

        threads = [threading.Thread(target=claim) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(claimed) == 1


def leased(limit: Limit) -> Decision:
    """A decision on a token that was drawn before."""
    clock = ManualClock()
    leases = Leases(limit, "api", Lease(max_tokens=3), clock)
    draw = Draw(Group((Hit(limit, "k", "api", 3),)), clock())
    leases._drawing["k"] = draw
    (ahead,) = MemoryStore(clock).decide([draw.group])
    leases.drawn(draw, ahead)
    made = leases.single(undecided, undecided)("k", 1)
    assert made is not None
    return made


def test_a_decision_travels_between_processes() -> None:
    limiter = Limiter({"user": "5/minute", "job": "concurrency 2"}, store=MemoryStore(ManualClock()))
    single = Limiter("5/minute", store=MemoryStore(ManualClock()))
    group = Group((Hit(TokenBucket(5), "k", "api"),))
    clock = ManualClock()
    memory = DenialMemory(1_000_000, clock)
    memory.learn(Decision(group, clock(), False, ((5_000_000, 200_000, 0, 0),)), clock(), 0)
    denied = memory.single(TokenBucket(5), "api")("k", 2)
    assert denied is not None
    for made in (
        denied,
        leased(TokenBucket(5)),
        leased(FixedWindow(5)),
        limiter.try_acquire({"user": "1", "job": "2"}),
        single.try_acquire("k"),
        single.peek("k", 3),
        Decision(group, 0, True, (), "fail_open"),
    ):
        for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
            assert repr(again) == repr(made)
            assert (again.group, again.facts, again.now_us, again.source) == (
                made.group,
                made.facts,
                made.now_us,
                made.source,
            )


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 50), st.integers(1, 10**7))
def test_what_a_decision_promises_is_what_happens(costs: list[int], rate: int, period_us: int) -> None:
    clock = ManualClock()
    from datetime import timedelta

    limiter = Limiter(TokenBucket(rate, timedelta(microseconds=period_us), burst=10), store=MemoryStore(clock))
    for cost in costs:
        asked = limiter.try_acquire("k", min(cost, 10))
        assert 0 <= asked.remaining <= 10
        if asked.remaining:
            assert limiter.peek("k", asked.remaining)
        if asked.remaining < 10:
            assert not limiter.peek("k", asked.remaining + 1)
        if not asked:
            clock.advance(microseconds=asked.retry_after_us - 1)
            assert not limiter.peek("k", min(cost, 10))
            clock.advance(microseconds=1)
            assert limiter.peek("k", min(cost, 10))

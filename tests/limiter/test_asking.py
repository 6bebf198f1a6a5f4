"""Asking and spending: `try_acquire`, `peek`, `reset`, costs and what a decision says."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from headgate import (
    AcquireTimeout,
    Concurrency,
    CostExceedsCapacity,
    FixedWindow,
    HeadgateError,
    InvalidCost,
    InvalidKey,
    InvalidUse,
    Limit,
    Limiter,
    LimitError,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    parse_limit,
)
from tests.limiter.bench import Bench, ask, holding, peek, remaining, remaining_by_tier, told

EVERY_LIMIT = [
    TokenBucket(3, per=60),
    FixedWindow(3, per=60),
    SlidingWindow(3, per=60),
    SlidingLog(3, per=60),
    Concurrency(3, ttl=60),
]


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_limit_admits_its_capacity_and_not_one_more(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    decisions = [await ask(limiter, "user:42") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert [bool(decision) for decision in decisions] == [True, True, True, False, False]
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]
    assert {decision.source for decision in decisions} <= {"store", "memory_of_denial"}
    assert {decision.now_us for decision in decisions} == {bench.clock()}


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_denied_request_passes_at_retry_after_and_not_a_microsecond_earlier(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "user:42", 3)
    denied = await ask(limiter, "user:42", 2)
    assert not denied
    assert denied.retry_after == denied.retry_after_us / 1_000_000
    bench.clock.advance(microseconds=denied.retry_after_us - 1)
    assert not await peek(limiter, "user:42", 2)
    bench.clock.advance(microseconds=1)
    assert await ask(limiter, "user:42", 2)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_after_reset_after_the_whole_capacity_is_there_again(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    decision = await ask(limiter, "user:42", 2)
    bench.clock.advance(microseconds=decision.reset_after_us - 1)
    assert await remaining(limiter, "user:42") < 3
    bench.clock.advance(microseconds=1)
    assert await remaining(limiter, "user:42") == 3
    assert (await peek(limiter, "user:42")).reset_after_us == 0


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_keys_do_not_share(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    assert await ask(limiter, "user:42", 3)
    assert not await ask(limiter, "user:42")
    assert await ask(limiter, "user:43", 3)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_peek_answers_like_the_request_and_spends_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    for _ in range(5):
        decision = await peek(limiter, "user:42", 3)
        assert decision
        assert decision.remaining == 3
    assert await ask(limiter, "user:42", 2)
    assert not await peek(limiter, "user:42", 2)
    assert await peek(limiter, "user:42", 1)
    assert await ask(limiter, "user:42", 1)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_cost_of_zero_spends_nothing_and_is_always_allowed(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    assert (await ask(limiter, "user:42", 0)).remaining == 3
    await ask(limiter, "user:42", 3)
    drained = await ask(limiter, "user:42", 0)
    assert drained
    assert drained.remaining == 0
    assert drained.cost == 0
    assert drained.retry_after_us == 0


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_denied_request_spends_nothing(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    assert await ask(limiter, "user:42", 2)
    for _ in range(3):
        assert not await ask(limiter, "user:42", 2)
    assert await ask(limiter, "user:42", 1)


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_reset_forgets_the_key_and_no_other(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "user:42", 3)
    await ask(limiter, "user:43", 3)
    await told(limiter.reset("user:42"))
    assert await remaining(limiter, "user:42") == 3
    assert await remaining(limiter, "user:43") == 0


async def test_a_reset_forgets_every_limit_of_the_key(bench: Bench) -> None:
    limiter = bench.limiter(["5/minute", "fixed-window 3/day", "concurrency 2"])
    assert await ask(limiter, "user:42", 3)
    assert not await ask(limiter, "user:42", 3)
    await told(limiter.reset("user:42"))
    assert await ask(limiter, "user:42", 3)


async def test_a_reset_of_tiers_forgets_each_key_in_its_own_tier(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "3/minute"})
    keys = {"user": "42", "ip": "203.0.113.7"}
    await ask(limiter, keys, 2)
    await told(limiter.reset(keys))
    assert await ask(limiter, keys, 2)


@pytest.mark.parametrize("cost", [-1, -(10**30)])
@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_negative_cost_is_refused_and_gives_nothing_back(bench: Bench, limit: Limit, cost: int) -> None:
    limiter = bench.limiter(limit)
    await ask(limiter, "user:42", 3)
    with pytest.raises(InvalidCost, match=r"a cost is at least 0, not -.*use refund"):
        await ask(limiter, "user:42", cost)
    assert await remaining(limiter, "user:42") == 0


@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_cost_above_the_capacity_can_never_pass_and_says_so(bench: Bench, limit: Limit) -> None:
    limiter = bench.limiter(limit)
    with pytest.raises(CostExceedsCapacity, match=r"a cost of 4 can never pass '.*', whose capacity is 3") as caught:
        await ask(limiter, "user:42", 4)
    assert (caught.value.cost, caught.value.capacity) == (4, 3)
    assert await remaining(limiter, "user:42") == 3


class Index:
    """An integer of somebody's own."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Three(enum.IntEnum):
    THREE = 3


class Odd(int):
    """Another integer, by its own account."""

    def __index__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "odd"


THREES: list[Any] = [np.int64(3), np.uint8(3), np.int16(3), np.array(3), Index(3), Three.THREE, Odd(3)]
three = pytest.mark.parametrize("cost", THREES, ids=lambda cost: type(cost).__name__)


@three
@pytest.mark.parametrize("limit", EVERY_LIMIT, ids=str)
async def test_a_cost_is_whatever_counts_as_an_integer(bench: Bench, limit: Limit, cost: Any) -> None:
    limiter = bench.limiter(limit)
    for decision in (await peek(limiter, "k", cost), await ask(limiter, "k", cost)):
        assert decision
        assert (decision.cost, type(decision.cost), type(decision.group.hits[0].cost)) == (3, int, int)
    denied = await ask(limiter, "k", cost)
    assert (denied.allowed, denied.remaining, type(denied.cost)) == (False, 0, int)
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire("k", cost, timeout=0))
    await told(limiter.refund(await ask(limiter, "other", cost)))
    acquired = await told(limiter.acquire("other", cost))
    assert (acquired.cost, type(acquired.cost), acquired.remaining) == (3, int, 0)
    async with holding(limiter, "third", cost) as hold:
        assert type(hold.decision.cost) is int
        assert await remaining(limiter, "third") == 0


@three
async def test_a_cost_that_counts_as_an_integer_is_taken_wherever_there_is_one(bench: Bench, cost: Any) -> None:
    limiter = bench.limiter("9/minute", name="api")
    assert (await ask(limiter, "k", cost, limit="4/minute")).remaining == 1
    tiers = bench.limiter({"user": "9/minute", "ip": "9/minute"})
    keys = {"user": "k", "ip": "k"}
    for decision in (await ask(tiers, keys, cost), await ask(tiers, keys, {"user": cost, "ip": Index(1)})):
        assert {type(hit.cost) for hit in decision.group.hits} == {int}
    assert await remaining_by_tier(tiers, keys) == {"user": 3, "ip": 5}
    beside = bench.limiter(["9/day", "concurrency 1"])
    decision = await ask(beside, "k", cost)
    assert [(hit.cost, type(hit.cost)) for hit in decision.group.hits] == [(3, int), (1, int)]
    settled = await told(limiter.settle(await ask(limiter, "other", 5), cost))
    assert (settled.cost, type(settled.cost), settled.remaining) == (3, int, 6)
    estimate = await ask(tiers, keys, 3)
    settled = await told(tiers.settle(estimate, {"user": cost, "ip": Index(2)}))
    assert [(hit.cost, type(hit.cost)) for hit in settled.group.hits] == [(3, int), (2, int)]
    assert await told(limiter.limit(key="third", cost=cost)(lambda: 5)()) == 5
    assert await told(limiter.limit(key="third", cost=lambda: cost)(lambda: 5)()) == 5
    assert await remaining(limiter, "third") == 3


async def test_a_reserve_that_can_never_be_left_is_named_beside_the_cost(bench: Bench) -> None:
    limiter = bench.limiter("9/minute")
    with pytest.raises(CostExceedsCapacity, match="a cost of 1 with a reserve of 9 can never pass") as caught:
        await told(limiter.peek("k", reserve=9))
    assert (caught.value.cost, caught.value.reserve, caught.value.capacity) == (1, 9, 9)
    assert "keep less back" in str(caught.value)
    assert await told(limiter.peek("k", reserve=8))


async def test_a_cost_that_counts_as_an_integer_is_bounded_like_any_other(bench: Bench) -> None:
    limiter = bench.limiter("9/minute")
    with pytest.raises(CostExceedsCapacity, match="a cost of 10 can never pass"):
        await ask(limiter, "k", np.int64(10))
    with pytest.raises(InvalidCost, match="a cost is at least 0, not -1"):
        await ask(limiter, "k", Index(-1))
    with pytest.raises(InvalidCost, match="an actual cost is an integer of at least 0"):
        await told(limiter.settle(await ask(limiter, "k"), np.int64(-1)))


class Broken:
    """It says that it counts as an integer, and does not."""

    def __index__(self) -> int:
        raise ValueError("not today")


IN_PARTS = [1.0, 2.5, Decimal(1), Decimal("1.5"), Fraction(1), np.float64(1), np.float32(1), 1j]
NO_INTEGERS: list[Any] = ["1", None, True, np.True_, np.array([1, 2]), np.array(1.0), [1], b"1", Broken(), object()]


@pytest.mark.parametrize("cost", [*IN_PARTS, *NO_INTEGERS], ids=lambda cost: type(cost).__name__)
async def test_a_cost_that_is_no_integer_is_refused_and_the_remedy_told(bench: Bench, cost: Any) -> None:
    limiter, tiers = bench.limiter("5/minute"), bench.limiter({"user": "5/minute"})
    beside = bench.limiter(["5/minute", "concurrency 1"])
    estimate = await ask(limiter, "settled", 3)
    calls: list[Callable[[], Any]] = [
        lambda: limiter.try_acquire("k", cost),
        lambda: limiter.try_acquire("k", cost, limit="4/minute"),
        lambda: limiter.acquire("k", cost),
        lambda: limiter.acquire("k", cost, timeout=0),
        lambda: limiter.peek("k", cost),
        lambda: holding(limiter, "k", cost).__aenter__(),
        lambda: tiers.try_acquire({"user": "k"}, cost),
        lambda: tiers.try_acquire({"user": "k"}, {"user": cost}),
        lambda: beside.try_acquire("k", cost),
        lambda: limiter.settle(estimate, cost),
        limiter.limit(key="k", cost=lambda: cost)(lambda: 5),
    ]
    remedy = r"write int\(\.\.\.\)"
    if any(cost is other for other in IN_PARTS):
        remedy += ", or count in a smaller unit, such as cents or thousandths"
    for call in calls:
        with pytest.raises(InvalidCost, match=f"cost is an integer.*, not (.|\n)*: {remedy}$"):
            await told(call())
    assert await remaining(limiter, "k") == 5
    assert (await peek(beside, "k", 5)).allowed


class ToAwait:
    def __await__(self) -> Iterator[int]:
        yield 1


async def test_what_has_to_be_awaited_is_neither_a_cost_nor_a_key(bench: Bench) -> None:
    limiter, later = bench.limiter("5/minute"), ToAwait()
    with pytest.raises(InvalidCost, match=r"a cost is an integer, not .*: await it$"):
        await ask(limiter, "k", cast("int", later))
    with pytest.raises(InvalidKey, match=r"a key is a str, not ToAwait: await it$"):
        await ask(limiter, cast("str", later))


@given(
    limit=st.sampled_from(EVERY_LIMIT),
    costs=st.lists(st.tuples(st.integers(-1, 4), st.sampled_from([int, np.int64, Index, np.array])), max_size=8),
)
def test_a_cost_counts_the_same_whatever_integer_it_is(limit: Limit, costs: list[tuple[int, Any]]) -> None:
    clock = ManualClock()
    plain, other = Limiter(limit, store=MemoryStore(clock)), Limiter(limit, store=MemoryStore(clock))
    for cost, kind in costs:
        if 0 <= cost <= 3:
            expected, decision = plain.try_acquire("k", cost), other.try_acquire("k", kind(cost))
            told_of = [(one.allowed, one.remaining, one.retry_after_us, one.cost) for one in (expected, decision)]
            assert told_of[0] == told_of[1]
            assert type(decision.cost) is int
        else:
            with pytest.raises(InvalidCost):
                other.try_acquire("k", kind(cost))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "must not be empty"),
        ("a\0b", "must not hold NUL, as 'a.*b' does at index 1"),
        ("user:\ud800", "must be encodable as UTF-8.*at index 5"),
        ("k" * 2**20, "at most 1024 bytes.*has 1048576"),
        ("ü" * 513, "at most 1024 bytes.*has 1026"),
        (None, "a key is a str, not NoneType"),
        (42, "a key is a str, not int"),
        (b"user:42", "a key is a str, not bytes"),
    ],
    ids=["empty", "NUL", "lone surrogate", "1 MB", "too long in UTF-8", "None", "int", "bytes"],
)
async def test_an_unusable_key_is_refused_by_every_call(bench: Bench, key: str, problem: str) -> None:
    limiter = bench.limiter("5/minute")
    for call in (limiter.try_acquire, limiter.peek, limiter.acquire, limiter.reset):
        with pytest.raises(InvalidKey, match=problem) as caught:
            await told(call(key))
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", ["x", " ", "\n", "ключ", "🔑", "{a}", "}{", "%7B", "a:b/c", "*", "k" * 1024, "\x7f"])
async def test_every_other_text_is_a_key_of_its_own(bench: Bench, key: str) -> None:
    limiter = bench.limiter("2/minute")
    assert await ask(limiter, key, 2)
    assert not await ask(limiter, key)
    assert await ask(limiter, key[:-1] + "!", 2)


async def test_keys_by_tier_do_not_fit_a_plain_limiter(bench: Bench) -> None:
    limiter = bench.limiter("5/minute")
    with pytest.raises(InvalidUse, match="this limiter has one key"):
        await ask(limiter, {"user": "42"})
    with pytest.raises(InvalidUse, match="give this limiter one int"):
        await ask(limiter, "user:42", {"user": 1})
    with pytest.raises(InvalidUse, match="give this limiter one limit"):
        await ask(limiter, "user:42", limit={"user": "1/s"})


async def test_a_limit_for_one_call_takes_the_place_of_the_limiters_own(bench: Bench) -> None:
    limiter = bench.limiter("2/minute")
    assert await ask(limiter, "user:42", 2)
    assert not await ask(limiter, "user:42")
    # What was spent is still owed: two tokens at 2/minute are a minute, which is 10 tokens at 10/minute.
    bench.clock.advance(seconds=30)
    generous = await ask(limiter, "user:42", 5, limit="10/minute")
    assert generous
    assert (generous.limit, generous.remaining) == (10, 0)
    assert not await ask(limiter, "user:42", limit="10/minute")


async def test_a_limit_for_one_call_is_checked_like_any_other(bench: Bench) -> None:
    limiter = bench.limiter("2/minute")
    with pytest.raises(CostExceedsCapacity):
        await ask(limiter, "user:42", 3)
    assert await ask(limiter, "user:42", 3, limit="3/minute")
    with pytest.raises(ValueError, match="expected '/', 'per' or ';'"):
        await ask(limiter, "user:42", limit="1 pr day")


async def test_a_limit_for_one_call_of_another_kind_counts_apart(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api")
    assert await ask(limiter, "user:42", 2)
    assert await ask(limiter, "user:42", 2, limit="fixed-window 2/minute")
    assert not await ask(limiter, "user:42")


SPANS = [
    ("5/minute", "3/hour"),
    ("5/minute", "5/minute; burst=50"),
    ("fixed-window 5/minute", "fixed-window 3/day"),
    ("fixed-window 5/day", "fixed-window 5/day; tz=Europe/Berlin"),
    ("sliding-window 5/minute", "sliding-window 3/hour"),
    ("sliding-log 5/minute", "sliding-log 3/hour"),
]


@pytest.mark.parametrize(("own", "other"), [*SPANS, *[pair[::-1] for pair in SPANS]])
async def test_limits_that_span_different_times_count_apart_and_neither_forgets(
    bench: Bench, own: str, other: str
) -> None:
    limiter = bench.limiter(own, name="api")
    admitted = {own: 0, other: 0}
    for _ in range(60):
        for limit in (own, other):
            decision = await ask(limiter, "k", limit=limit)
            assert decision.binding == "api"
            admitted[limit] += decision.allowed
    assert admitted == {limit: parse_limit(limit).capacity for limit in (own, other)}
    await told(limiter.reset("k", limit=other))
    assert await ask(limiter, "k", limit=other)
    assert not await ask(limiter, "k")


async def test_a_decision_knows_what_was_asked(bench: Bench) -> None:
    limiter = bench.limiter("10/minute; burst=20", name="api")
    decision = await ask(limiter, "user:42", 5)
    assert (decision.key, decision.cost, decision.limit, decision.binding) == ("user:42", 5, 20, "api")
    assert decision.remaining == 15
    assert decision.reset_after == 30.0
    assert repr(decision) == "<Decision allowed, key='user:42', binding='api', remaining=15/20>"
    denied = await ask(limiter, "user:42", 16)
    assert denied.retry_after_us == 6_000_000
    assert repr(denied) == "<Decision denied, retry_after=6.000000, key='user:42', binding='api', remaining=15/20>"
    assert denied.headers() == {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "15",
        "X-RateLimit-Reset": "30",
        "Retry-After": "6",
    }


async def test_what_is_refused_is_never_stored(bench: Bench, valkey_url: str, prefix: str) -> None:
    plain = bench.limiter(["5/minute", "fixed-window 5/day", "sliding-window 5/day", "sliding-log 5/day"])
    tiered = bench.limiter({"user": "5/minute", "ip": "concurrency 5"}, name="api")
    calls: list[tuple[Any, Any, Any]] = [
        (plain, key, 1) for key in ("", "a\0b", "\ud800", "k" * 2**20, None, 5, b"k", {"user": "k"})
    ]
    calls += [(plain, "k", cost) for cost in (-1, 6, 10**30, 1.0, "1", None, True, {"user": 1})]
    calls += [(tiered, key, 1) for key in ("k", {}, {"user": "k"}, {"user": "k", "ip": ""}, {"user": "k", "ip": 5})]
    calls += [(tiered, {"user": "k", "ip": "k"}, cost) for cost in (-1, 6, {"user": 1, "ip": 6}, {"user": 1}, 1.5)]
    for limiter, key, cost in calls:
        for method in (limiter.try_acquire, limiter.peek, limiter.acquire):
            with pytest.raises(HeadgateError):
                await told(method(key, cost))
    texts: list[Any] = ["1 pr day", "-5/minute", "0/s", "1e9/minute", "10/0s", "", "5_/minute", "unlimited", 5, ["5/s"]]
    for text in texts:
        with pytest.raises(LimitError):
            await told(bench.limiter("5/minute").try_acquire("k", limit=text))
    with redis.Redis.from_url(valkey_url) as admin:
        assert list(admin.scan_iter(f"{prefix}:*")) == []

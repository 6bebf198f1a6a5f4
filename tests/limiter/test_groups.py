"""Several limits on one key, and tiers with a key each: all are spent or none is."""

from __future__ import annotations

import pytest

from headgate import Concurrency, CostExceedsCapacity, InvalidUse, LimitSyntaxError, TokenBucket
from headgate.limiter.naming import Limits
from tests.limiter.bench import Bench, ask, holding, peek, remaining_by_tier, told

KEYS = {"user": "42", "ip": "203.0.113.7", "global": "*"}


async def test_all_limits_of_a_key_hold(bench: Bench) -> None:
    limiter = bench.limiter(["5/minute; burst=3", "4/day"])
    decisions = [await ask(limiter, "user:42") for _ in range(4)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    assert decisions[3].binding == "5/minute; burst=3"
    bench.clock.advance(seconds=60)
    assert await ask(limiter, "user:42")
    denied = await ask(limiter, "user:42")
    assert not denied
    assert denied.binding == "4/day"
    assert denied.limit == 4


async def test_what_one_limit_denies_costs_nothing_in_any_other(bench: Bench) -> None:
    limits = ["100/minute", "fixed-window 100/hour", "sliding-window 100/hour", "sliding-log 100/hour", "2/day"]
    limiter = bench.limiter(limits)
    assert await ask(limiter, "user:42", 2)
    before = await peek(limiter, "user:42", 0)
    for _ in range(5):
        assert not await ask(limiter, "user:42", 2)
    assert (await peek(limiter, "user:42", 0)).facts == before.facts


async def test_what_one_tier_denies_costs_nothing_in_any_other(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "10/minute", "global": "1000/hour"})
    assert await ask(limiter, KEYS, 2)
    for _ in range(3):
        assert not await ask(limiter, KEYS)
    assert await remaining_by_tier(limiter, KEYS) == {"user": 0, "ip": 8, "global": 998}


@pytest.mark.parametrize("drained", ["user", "ip", "global"])
async def test_the_binding_tier_is_the_one_that_denies(bench: Bench, drained: str) -> None:
    limiter = bench.limiter({tier: "1/minute" if tier == drained else "50/minute" for tier in KEYS})
    first = await ask(limiter, KEYS)
    assert first
    assert first.binding == drained  # nearest to denying
    denied = await ask(limiter, KEYS)
    assert not denied
    assert (denied.binding, denied.key, denied.limit) == (drained, KEYS[drained], 1)
    assert denied.retry_after_us == 60_000_000


async def test_of_several_limits_that_deny_the_one_to_wait_for_longest_binds(bench: Bench) -> None:
    limiter = bench.limiter({"second": "1/second", "hour": "1/hour", "minute": "1/minute"})
    keys = {"second": "k", "hour": "k", "minute": "k"}
    assert await ask(limiter, keys)
    denied = await ask(limiter, keys)
    assert (denied.binding, denied.retry_after_us) == ("hour", 3_600_000_000)
    bench.clock.advance(microseconds=denied.retry_after_us)
    assert await ask(limiter, keys)


async def test_tiers_are_independent_of_each_other(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "3/minute"})
    assert await ask(limiter, {"user": "1", "ip": "a"}, 2)
    assert await ask(limiter, {"user": "2", "ip": "b"}, 2)
    denied = await ask(limiter, {"user": "3", "ip": "a"}, 2)
    assert denied.binding == "ip"
    assert await ask(limiter, {"user": "3", "ip": "b"}, 1)
    assert await remaining_by_tier(limiter, {"user": "3", "ip": "b"}) == {"user": 1, "ip": 0}


async def test_two_tiers_with_the_same_key_and_limit_do_not_share(bench: Bench) -> None:
    limiter = bench.limiter({"reads": "2/minute", "writes": "2/minute"})
    assert await ask(limiter, {"reads": "k", "writes": "k"}, {"reads": 2, "writes": 0})
    assert await remaining_by_tier(limiter, {"reads": "k", "writes": "k"}) == {"reads": 0, "writes": 2}


async def test_costs_may_differ_by_tier(bench: Bench) -> None:
    limiter = bench.limiter({"requests": "10/minute", "tokens": "1000/minute"})
    keys = {"requests": "k", "tokens": "k"}
    assert await ask(limiter, keys, {"requests": 1, "tokens": 900})
    denied = await ask(limiter, keys, {"requests": 1, "tokens": 101})
    assert (denied.binding, denied.cost) == ("tokens", 101)
    assert await ask(limiter, keys, {"requests": 9, "tokens": 100})
    assert await remaining_by_tier(limiter, keys) == {"requests": 0, "tokens": 0}


async def test_a_cost_above_one_tiers_capacity_names_the_tier(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "10/minute"}, name="api")
    with pytest.raises(CostExceedsCapacity, match=r"'api\.user', whose capacity is 2"):
        await ask(limiter, {"user": "1", "ip": "a"}, 5)
    assert await remaining_by_tier(limiter, {"user": "1", "ip": "a"}) == {"user": 2, "ip": 10}


async def test_one_call_may_replace_the_limit_of_a_tier(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "10/minute"}, name="api")
    keys = {"user": "1", "ip": "a"}
    assert await ask(limiter, keys, 3, limit={"user": TokenBucket(6, per=60)})
    assert await remaining_by_tier(limiter, keys) == {"user": 1, "ip": 7}  # half a minute of debt is one of two tokens
    with pytest.raises(InvalidUse, match="there is no tier 'usr'; there are user, ip"):
        await ask(limiter, keys, limit={"usr": "1/s"})
    with pytest.raises(InvalidUse, match="name them in a dict of tiers"):
        await ask(limiter, keys, limit="1/s")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("42", "give a dict with a key for each of user, ip"),
        ({"user": "42"}, "ip"),
        ({"user": "42", "ip": "a", "cookie": "c"}, "cookie"),
        ({}, "user"),
    ],
)
async def test_keys_that_do_not_match_the_tiers_are_refused(bench: Bench, keys: dict[str, str], problem: str) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "10/minute"})
    with pytest.raises(InvalidUse, match=problem):
        await ask(limiter, keys)


async def test_costs_that_do_not_match_the_tiers_are_refused(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "10/minute"})
    with pytest.raises(InvalidUse, match="ip"):
        await ask(limiter, {"user": "1", "ip": "a"}, {"user": 1})


@pytest.mark.parametrize(
    ("limits", "kind", "problem"),
    [
        ([], InvalidUse, "a limiter has 1 to 32 limits, not 0"),
        ({}, InvalidUse, "a limiter has 1 to 32 limits, not 0"),
        ([f"{n}/minute" for n in range(1, 34)], InvalidUse, "a limiter has 1 to 32 limits, not 33"),
        (["5/minute", "5 per minute"], InvalidUse, "two limits would share the name '5/minute'"),
        (None, LimitSyntaxError, "a limit is a text or a Limit, not NoneType"),
        (5, LimitSyntaxError, "a limit is a text or a Limit, not int"),
        (["5/minute", None], LimitSyntaxError, "a limit is a text or a Limit, not NoneType"),
        ({"user": 5}, LimitSyntaxError, "a limit is a text or a Limit, not int"),
        (b"5/minute", LimitSyntaxError, "a limit is a text or a Limit, not"),
        ({"5/minute"}, LimitSyntaxError, "a limit is a text or a Limit, not set"),
        ("", LimitSyntaxError, "expected a whole number"),
        ({"user": "1 pr day"}, LimitSyntaxError, "expected '/', 'per' or ';'"),
    ],
)
async def test_limits_that_make_no_limiter_are_refused(
    bench: Bench, limits: Limits, kind: type[Exception], problem: str
) -> None:
    with pytest.raises(kind, match=problem):
        bench.limiter(limits)


async def test_a_named_limiter_refuses_two_limits_that_would_share_a_name(bench: Bench) -> None:
    with pytest.raises(InvalidUse, match=r"two limits would share the name 'api\.per-minute'"):
        bench.limiter(["5/minute", "10/minute; burst=3"], name="api")


async def test_a_request_takes_one_slot_whatever_its_cost_in_tokens(bench: Bench) -> None:
    limiter = bench.limiter(["1000/minute", Concurrency(2)])
    async with holding(limiter, "k", 400), holding(limiter, "k", 400):
        denied = await ask(limiter, "k", 1)
        assert (denied.allowed, denied.binding) == (False, "concurrency 2")
    assert await ask(limiter, "k", 200)
    denied = await ask(limiter, "k", 1)
    assert (denied.allowed, denied.binding) == (False, "1000/minute")


async def test_a_denied_group_takes_no_slot(bench: Bench) -> None:
    limiter = bench.limiter(["1/minute", Concurrency(1)])
    async with holding(limiter, "k"):
        pass
    for _ in range(3):
        denied = await ask(limiter, "k")
        assert (denied.allowed, denied.binding) == (False, "1/minute")
    await told(limiter.reset("k"))
    assert await ask(limiter, "k")


async def test_every_kind_of_limit_goes_with_every_other(bench: Bench) -> None:
    kinds = {"tb": "3/minute", "fw": "fixed-window 3/hour", "sw": "sliding-window 3/hour", "sl": "sliding-log 3/hour"}
    limiter = bench.limiter({**kinds, "day": "fixed-window 3/day; tz=Europe/Berlin", "cc": "concurrency 3"})
    keys = dict.fromkeys([*kinds, "day", "cc"], "k")
    assert [bool(await ask(limiter, keys)) for _ in range(5)] == [True, True, True, False, False]
    assert await remaining_by_tier(limiter, keys) == dict.fromkeys(keys, 0)

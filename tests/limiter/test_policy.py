"""The policy: how a request becomes a group of hits, and an earlier decision what returns or renews it."""

from __future__ import annotations

import enum
import math
from typing import Any

import pytest

from headgate import (
    CostExceedsCapacity,
    Decision,
    InvalidCost,
    InvalidUse,
    LimitSyntaxError,
    ManualClock,
    MemoryStore,
    TokenBucket,
)
from headgate.algorithms import MAX_SPAN_US
from headgate.decision.copies import _forks
from headgate.hits import Group, Hit
from headgate.limiter.naming import Limits
from headgate.limiter.policy import Policy, wait_bound_us
from headgate.plans.groups import give_back_groups, renew_groups, settle_groups


def test_one_limit_makes_one_hit() -> None:
    policy = Policy("5/minute")
    assert policy.group("k", 2) == Group((Hit(TokenBucket(5, 60), "k", "5/minute", 2),))
    assert policy.limits == {"5/minute": TokenBucket(5, 60)}


def test_several_limits_make_a_hit_each_on_one_key() -> None:
    group = Policy(["5/minute", "9/hour"], "api").group("k", 2)
    assert [(hit.name, hit.key, hit.cost) for hit in group.hits] == [
        ("api.per-minute", "k", 2),
        ("api.per-hour", "k", 2),
    ]


def test_tiers_make_a_hit_each_on_a_key_of_its_own_in_the_limiters_order() -> None:
    group = Policy({"user": "5/minute", "ip": "9/hour"}, "api").group({"ip": "a", "user": "42"}, {"ip": 3, "user": 1})
    assert [(hit.tier, hit.key, hit.cost) for hit in group.hits] == [("user", "42", 1), ("ip", "a", 3)]


def test_each_request_for_slots_has_a_holder_of_its_own() -> None:
    for policy in (Policy("concurrency 5"), Policy(["concurrency 5", "5/minute"]), Policy({"jobs": "concurrency 5"})):
        key: Any = {"jobs": "k"} if policy.is_tiered else "k"
        holders = {policy.group(key).hits[0].holder for _ in range(100)}
        assert len(holders) == 100
    assert Policy("5/minute").group("k").hits[0].holder == ""


def test_beside_other_limits_a_request_takes_one_slot_or_none() -> None:
    policy = Policy(["1000/minute", "concurrency 5"])
    assert [hit.cost for hit in policy.group("k", 400).hits] == [400, 1]
    assert [hit.cost for hit in policy.group("k", 0).hits] == [0, 0]
    assert [hit.cost for hit in Policy("concurrency 5").group("k", 3).hits] == [3]
    with pytest.raises(CostExceedsCapacity):
        Policy("concurrency 5").group("k", 6)


@pytest.mark.parametrize("cost", [-1, 1.5, "1", None, True])
@pytest.mark.parametrize("limits", ["5/minute", ["5/minute", "9/hour"], ["5/minute", "concurrency 2"]])
def test_a_cost_that_cannot_be_is_refused(limits: Limits, cost: Any) -> None:
    with pytest.raises(InvalidCost):
        Policy(limits).group("k", cost)


@pytest.mark.parametrize("cost", [-1, 1.5, "1", None, True])
def test_a_cost_by_tier_that_cannot_be_is_refused(cost: Any) -> None:
    with pytest.raises(InvalidCost):
        Policy({"a": "5/minute", "b": "concurrency 5"}).group({"a": "k", "b": "k"}, {"a": cost, "b": 1})
    with pytest.raises(InvalidCost):
        Policy({"a": "5/minute", "b": "concurrency 5"}).group({"a": "k", "b": "k"}, cost)


class Cost(enum.IntEnum):
    """An integer that does not print as one."""

    SEARCH = 3


@pytest.mark.parametrize("limit", ["5/minute", "fixed-window 5/minute", "sliding-log 5/minute", "concurrency 5"])
def test_a_cost_of_another_integer_type_is_sent_as_a_plain_one(limit: str) -> None:
    for policy in (Policy(limit), Policy([limit, "fixed-window 9/hour"])):
        for hit in policy.group("k", Cost.SEARCH).hits:
            assert type(hit.cost) is int


COLLIDING: list[tuple[Limits, str | None]] = [
    ({"c": "5/minute"}, "a.b"),
    ({"b.c": "5/minute"}, "a"),
    ({"b%2Ec": "5/minute"}, "a"),
    ({"b%252Ec": "5/minute"}, "a"),
    ({"c": "5/minute"}, "a..b"),
    ({"a": "5/minute"}, None),
    ({"a=5/minute": "5/minute"}, None),
    ({"a%3D5/minute": "5/minute"}, None),
    ({"a.b": "5/minute"}, None),
]


def test_names_and_tiers_that_look_alike_when_joined_do_not_share() -> None:
    users: dict[str, tuple[Limits, str | None]] = {}
    for limits, name in COLLIDING:
        policy = Policy(limits, name)
        for full_name in policy.limits:
            assert users.setdefault(full_name, (limits, name)) == (limits, name)


def test_a_name_may_hold_what_joins_names() -> None:
    assert list(Policy("5/minute", "api.v2").limits) == ["api.v2"]


def test_limits_that_would_share_a_name_are_refused() -> None:
    with pytest.raises(InvalidUse, match="two limits would share the name '5/minute'"):
        Policy(["5/minute", TokenBucket(5, 60)])
    with pytest.raises(InvalidUse, match=r"two limits would share the name 'api\.per-minute': give them as a dict"):
        Policy(["5/minute", "6/minute"], "api")


@pytest.mark.parametrize("limits", [None, 5, b"5/s", object(), {"5/s"}, iter(["5/s"])])
def test_what_is_no_limit_makes_no_policy(limits: Any) -> None:
    with pytest.raises(LimitSyntaxError, match="a limit is a text or a Limit, not"):
        Policy(limits)


def decided(policy: Policy, key: Any, cost: Any = 1, *, allowed: bool = True, action: Any = "spend") -> Decision:
    """What a store says, to which nobody or everybody has come before."""
    store = MemoryStore(ManualClock())
    if not allowed:
        full = {tier: hit.limit.capacity for tier, hit in zip("abcd", policy.group(key, 0).hits, strict=False)}
        store.decide([policy.group(key, full if policy.is_tiered else max(full.values()))])
    (decision,) = store.decide([policy.group(key, cost, None, action)])
    assert decision.allowed is allowed
    return decision


def test_what_returns_a_decision_gives_back_each_hit_that_took_something() -> None:
    policy = Policy({"a": "5/minute", "b": "9/minute", "c": "concurrency 5"})
    decision = decided(policy, {"a": "k", "b": "k", "c": "k"}, {"a": 2, "b": 0, "c": 1})
    groups = give_back_groups(decision)
    assert [group.action for group in groups] == ["give_back", "give_back"]
    assert [group.hits[0].tier for group in groups] == ["a", "c"]
    assert [len(group.hits) for group in groups] == [1, 1]
    assert groups[0].hits[0].receipt == decision.group.hits[0].limit.receipt(decision.facts[0], 2)
    only = give_back_groups(decision, only_slots=True)
    assert [group.hits[0].tier for group in only] == ["c"]


def test_nothing_returns_what_took_nothing() -> None:
    policy = Policy(["5/minute", "concurrency 5"])
    assert give_back_groups(decided(policy, "k", allowed=False)) == []
    assert give_back_groups(decided(policy, "k", 0)) == []
    assert give_back_groups(decided(policy, "k", action="peek")) == []
    assert give_back_groups(Decision(policy.group("k"), 0, True, ())) == []


def test_what_settles_a_decision_gives_back_or_takes_the_difference_and_asks_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_forks, "last_us", None)  # other tests fork, and then decisions may have copies
    policy = Policy({"a": "9/minute", "b": "9/minute", "c": "9/minute", "d": "concurrency 5"})
    keys = dict.fromkeys("abcd", "k")
    groups = settle_groups(
        decided(policy, keys, 1), policy.actual(decided(policy, keys, 1), {**dict.fromkeys("abcd", 1), "a": 4})
    )
    assert [(index, group.action, group.hits[0].cost) for index, group in groups] == [
        (0, "take", 3),
        (1, "peek", 0),
        (2, "peek", 0),
        (3, "peek", 0),
    ]
    groups = settle_groups(decided(policy, keys, 3), [1, 3, 5, 0])
    assert [(index, group.action, group.hits[0].cost) for index, group in groups] == [
        (0, "give_back", 2),
        (1, "peek", 0),
        (2, "take", 2),
        (3, "peek", 0),
    ]
    assert settle_groups(decided(policy, keys, 3, allowed=False), [1, 3, 5, 0]) == []
    assert settle_groups(decided(policy, keys, 3, action="peek"), [1, 3, 5, 0]) == []


def test_what_renews_a_decision_names_its_slots_only() -> None:
    policy = Policy({"a": "9/minute", "b": "concurrency 5", "c": "concurrency 5"})
    keys = dict.fromkeys("abc", "k")
    groups = renew_groups(decided(policy, keys, {"a": 1, "b": 2, "c": 0}))
    assert [(group.action, group.hits[0].tier, group.hits[0].cost) for group in groups] == [("renew", "b", 2)]
    assert renew_groups(decided(policy, keys, 0)) == []
    assert renew_groups(Decision(policy.group(keys), 0, True, ())) == []


def test_a_denial_holds_nothing_that_could_be_renewed() -> None:
    policy = Policy("concurrency 5")
    assert renew_groups(decided(policy, "k", allowed=False)) == []
    assert renew_groups(decided(policy, "k", action="peek")) == []


@pytest.mark.parametrize(
    ("timeout", "bound_us"),
    [
        (None, MAX_SPAN_US),
        (0, 0),
        (0.0, 0),
        (5, 5_000_000),
        (0.25, 250_000),
        (1e-7, 0),
        (math.inf, MAX_SPAN_US),
        (10**12, MAX_SPAN_US),
        (1e300, MAX_SPAN_US),
    ],
)
def test_a_timeout_in_seconds_is_a_bound_in_microseconds(timeout: float | None, bound_us: int) -> None:
    assert wait_bound_us(timeout) == bound_us


@pytest.mark.parametrize("timeout", [-1, -0.1, -math.inf, math.nan, "5", True, [], object()])
def test_a_timeout_that_is_no_duration_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidUse, match="a timeout is a number of seconds of at least 0, or None, not"):
        wait_bound_us(timeout)

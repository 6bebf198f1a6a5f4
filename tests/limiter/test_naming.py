"""Who shares a counter with whom: limiters of one name do, others never."""

from __future__ import annotations

import pytest

from headgate import InvalidKey, TokenBucket
from headgate.limiter.naming import Limits, begin_of, is_of
from headgate.limiter.policy import Policy
from tests.limiter.bench import Bench, ask, peek, remaining, remaining_by_tier


async def test_unnamed_limiters_with_the_same_limit_share(bench: Bench) -> None:
    await ask(bench.limiter("5/minute"), "k", 5)
    assert not await ask(bench.limiter("5 per minute"), "k")
    assert not await ask(bench.limiter(TokenBucket(5, per=60)), "k")


async def test_unnamed_limiters_with_different_limits_do_not_share(bench: Bench) -> None:
    limits = ["5/minute", "5/minute; burst=6", "6/minute", "5/hour", "fixed-window 5/minute", "concurrency 5"]
    for limit in limits:
        assert (await ask(bench.limiter(limit), "k", 5)).remaining == (1 if "6" in limit else 0)


async def test_limiters_of_one_name_share_and_keep_their_debt_when_the_numbers_change(bench: Bench) -> None:
    await ask(bench.limiter("10/minute", name="api"), "k", 5)  # half a minute of debt
    assert (await peek(bench.limiter("60/minute", name="api"), "k", 0)).remaining == 30
    assert (await peek(bench.limiter("10/minute; burst=6", name="api"), "k", 0)).remaining == 1
    assert (await peek(bench.limiter("10/minute; burst=5", name="api"), "k", 0)).remaining == 0
    assert (await peek(bench.limiter("10/minute; burst=4", name="api"), "k", 0)).remaining == 0


async def test_a_changed_limit_takes_effect_on_the_next_request(bench: Bench) -> None:
    assert not (await ask(bench.limiter("1/minute", name="api"), "k")).remaining
    assert not await ask(bench.limiter("1/minute", name="api"), "k")
    assert await ask(bench.limiter("60/minute; burst=61", name="api"), "k")  # a minute of debt, and a second
    denied = await peek(bench.limiter("1/minute", name="api"), "k", 1)
    assert denied.retry_after == 60  # what a bucket owes beyond its own span is forgiven


async def test_a_name_with_another_algorithm_starts_afresh_and_leaves_the_other_alone(bench: Bench) -> None:
    kinds = ["5/minute", "fixed-window 5/minute", "sliding-window 5/minute", "sliding-log 5/minute", "concurrency 5"]
    for limit in kinds:
        assert await ask(bench.limiter(limit, name="api"), "k", 5)
    for limit in kinds:
        assert await remaining(bench.limiter(limit, name="api"), "k") == 0


async def test_limiters_of_different_names_do_not_share(bench: Bench) -> None:
    for name in ("api", "API", "api ", "api:", "a.pi", "api/", "{api}"):
        assert await ask(bench.limiter("5/minute", name=name), "k", 5)


async def test_named_lists_keep_their_state_when_a_number_changes(bench: Bench) -> None:
    await ask(bench.limiter(["10/minute", "100/hour"], name="api"), "k", 8)
    changed = await ask(bench.limiter(["20/minute", "100/hour"], name="api"), "k", 0)
    assert [hit.name for hit in changed.group.hits] == ["api.per-minute", "api.per-hour"]
    minute, hour = changed.group.hits
    assert minute.limit.remaining(changed.facts[0], changed.now_us) == 4
    assert hour.limit.remaining(changed.facts[1], changed.now_us) == 92


async def test_unnamed_tiers_share_by_tier_and_limit(bench: Bench) -> None:
    keys = {"user": "k", "ip": "k"}
    await ask(bench.limiter({"user": "5/minute", "ip": "9/minute"}), keys, 5)
    assert await remaining_by_tier(bench.limiter({"ip": "9/minute", "user": "5/minute"}), keys) == {"ip": 4, "user": 0}
    assert await remaining_by_tier(bench.limiter({"user": "6/minute", "ip": "5/minute"}), keys) == {"user": 6, "ip": 5}


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "n" * 1025, 5, b"api"])
async def test_an_unusable_name_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidKey):
        bench.limiter("5/minute", name=name)


@pytest.mark.parametrize("tier", ["", "a\0b", "\ud800", "n" * 1025, 5, b"api"])
async def test_an_unusable_tier_is_refused(bench: Bench, tier: str) -> None:
    with pytest.raises(InvalidKey):
        bench.limiter({tier: "5/minute"})


@pytest.mark.parametrize("name", ["web", "web.user", "50%", "%2E.", ".", "a:b", "北京"])
@pytest.mark.parametrize(
    "limits", ["5/minute", ["5/minute", "9/day"], {"user": "5/minute", "a.b": "9/minute", "%": "concurrency 2"}]
)
def test_the_names_of_a_limiters_limits_are_told_from_others(name: str, limits: Limits) -> None:
    for penalty in (None, "2 denials/minute -> 1h"):
        for limit in Policy(limits, name, penalty=penalty).limits:
            assert is_of(limit, name)
            assert limit.startswith(begin_of(name))
            for other in ("we", "webs", "web.user.more", "50", "%2E", "a", "北"):
                assert not is_of(limit, other)


def test_what_has_a_dot_may_be_a_part_or_a_name() -> None:
    assert is_of("web.user", "web")
    assert is_of("web.user", "web.user")
    assert not is_of("web.user.more", "web")  # no part has a dot
    assert not is_of("web.", "web.user")

"""Keys that are denied too often: how a limiter is given a penalty, what its decisions say, and what follows them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    InvalidCost,
    InvalidUse,
    Limiter,
    LimitSyntaxError,
    ManualClock,
    MemoryStore,
    Penalty,
)
from headgate.limiter.naming import Limits
from headgate.limiter.policy import Policy
from tests.limiter.bench import AnyLimiter, Bench, FailingStore, ask, holding, peek, remaining, told

HOUR = 3_600
PENALTY = "3 denials/minute -> 1h"


async def block(limiter: AnyLimiter, key: Any) -> None:
    """Ask until the key is blocked."""
    for _ in range(20):
        if (await ask(limiter, key)).binding.endswith("penalty"):
            return
    pytest.fail("it was never blocked")


async def test_a_key_that_was_denied_too_often_is_blocked_for_the_time_that_its_penalty_says(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api", penalty=PENALTY)
    decisions = [await ask(limiter, "k") for _ in range(6)]
    assert [bool(decision) for decision in decisions] == [True, True, False, False, False, False]
    assert [decision.binding for decision in decisions] == ["api"] * 4 + ["api.penalty"] * 2
    assert [decision.retry_after for decision in decisions] == [0, 0, 30, 30, HOUR, HOUR]
    bench.clock.advance(seconds=HOUR - 1)
    assert (await ask(limiter, "k")).retry_after == 1
    assert await ask(limiter, "another")
    bench.clock.advance(seconds=1)
    assert await ask(limiter, "k")


async def test_an_allowed_decision_speaks_of_the_limit_and_not_of_its_penalty(bench: Bench) -> None:
    plain, watched = bench.limiter("2/minute", name="a"), bench.limiter("2/minute", name="b", penalty=PENALTY)
    for _ in range(2):
        one, other = await ask(plain, "k"), await ask(watched, "k")
        assert (one.remaining, one.limit, one.reset_after) == (other.remaining, other.limit, other.reset_after)
        assert one.headers() == other.headers()
        assert other.headers("draft-11")["RateLimit"].startswith('"b"')


async def test_a_blocked_decision_speaks_of_the_penalty(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api", penalty=PENALTY)
    await block(limiter, "k")
    decision = await ask(limiter, "k")
    assert (decision.key, decision.limit, decision.remaining) == ("k", 3, 0)
    assert (decision.reset_after, decision.headers()["Retry-After"]) == (HOUR, "3600")


async def test_a_reset_lifts_a_block(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api", penalty=PENALTY)
    await block(limiter, "k")
    await told(limiter.reset("k"))
    assert await remaining(limiter, "k") == 2
    for expected in ("api", "api", "api", "api", "api.penalty"):
        assert (await ask(limiter, "k")).binding == expected


async def test_a_peek_tells_of_a_block_and_counts_nothing(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api", penalty=PENALTY)
    await ask(limiter, "k", 2)
    for _ in range(5):
        assert (await peek(limiter, "k")).binding == "api"
        assert await ask(limiter, "k", 0)
    await block(limiter, "k")
    assert (await peek(limiter, "k")).binding == "api.penalty"
    assert not await ask(limiter, "k", 0)


async def test_a_refund_and_a_settlement_leave_the_penalty_alone(bench: Bench) -> None:
    limiter = bench.limiter("10/minute", name="api", penalty=PENALTY)
    first, second = await ask(limiter, "k", 4), await ask(limiter, "k", 4)
    assert not await ask(limiter, "k", 4)
    await told(limiter.refund(first))
    settled = await told(limiter.settle(second, 10))
    assert (settled.binding, settled.remaining) == ("api", 0)
    assert [(await ask(limiter, "k")).binding for _ in range(2)] == ["api", "api.penalty"]


async def test_copies_of_a_decision_refund_once_beside_a_penalty(bench: Bench) -> None:
    limiter = bench.limiter("10/minute", name="api", penalty=PENALTY)
    decision = await ask(limiter, "k", 4)
    await ask(limiter, "k", 4)
    copied = pickle.loads(pickle.dumps(decision))
    await told(limiter.refund(copied))
    await told(limiter.refund(pickle.loads(pickle.dumps(decision))))
    assert await remaining(limiter, "k") == 6


# Shapes


async def test_several_limits_of_a_key_have_one_penalty_together(bench: Bench) -> None:
    limiter = bench.limiter(["3/minute", "sliding-window 2/second"], name="api", penalty=PENALTY)
    await ask(limiter, "k", 2)
    bindings = [(await ask(limiter, "k", cost)).binding for cost in (1, 2, 2)]
    assert bindings == ["api.per-second", "api.per-minute", "api.penalty"]


@pytest.mark.parametrize(
    "limits",
    [["2/minute", "penalty 3 denials/minute -> 1h"], ["2/minute", Penalty(3, per=60, block=HOUR)]],
    ids=str,
)
async def test_a_penalty_may_stand_among_the_limits(bench: Bench, limits: Limits) -> None:
    limiter = bench.limiter(limits, name="api")
    await block(limiter, "k")
    assert (await ask(limiter, "k")).binding == "api.penalty"


async def test_each_tier_has_a_penalty_of_its_own(bench: Bench) -> None:
    limiter = bench.limiter({"user": "2/minute", "ip": "6/minute"}, name="n", penalty=PENALTY)
    ann, bob = ({"user": name, "ip": "here"} for name in ("ann", "bob"))
    bindings = [(await ask(limiter, ann)).binding for _ in range(6)]
    assert bindings == ["user"] * 4 + ["user:penalty"] * 2
    assert [bool(await ask(limiter, {"user": f"{n}", "ip": "here"})) for n in range(6)] == [True] * 4 + [False] * 2
    assert (await ask(limiter, bob)).binding == "ip:penalty"
    assert (await ask(limiter, bob)).key == "here"
    await told(limiter.reset(ann))
    assert await ask(limiter, ann)


async def test_tiers_may_name_a_penalty_behind_what_it_watches(bench: Bench) -> None:
    limiter = bench.limiter({"login": "2/minute", "login:penalty": Penalty(3, per=60, block=HOUR)}, name="web")
    keys = {"login": "ann", "login:penalty": "ann"}
    costs: list[Any] = [1, {"login": 1}, {"login": 1, "login:penalty": 7}, 1, {"login": 2, "login:penalty": 1}]
    decisions = [await ask(limiter, keys, cost) for cost in costs]
    assert [decision.binding for decision in decisions] == ["login"] * 4 + ["login:penalty"]
    assert limiter.limits["web.login:penalty"] == Penalty(3, per=60, block=HOUR)


async def test_a_penalty_may_go_by_another_key_than_what_it_watches(bench: Bench) -> None:
    limiter = bench.limiter({"login": "1/minute", "address": Penalty(3, per=60, block=HOUR)}, name="web")
    for user in ("a", "b", "c"):
        keys = {"login": user, "address": "here"}
        assert await ask(limiter, keys)
        denied = await ask(limiter, keys)
        assert denied.binding == ("address" if user == "c" else "login")
    assert not await ask(limiter, {"login": "d", "address": "here"})
    assert await ask(limiter, {"login": "d", "address": "there"})


async def test_a_limit_for_a_call_is_watched_as_the_limiters_own(bench: Bench) -> None:
    limiter = bench.limiter("2/minute", name="api", penalty=PENALTY)
    assert await ask(limiter, "k", 50, limit="100/minute")
    await block(limiter, "k")
    assert (await ask(limiter, "k", limit="100/minute")).binding == "api.penalty"
    tiers = bench.limiter({"user": "2/minute"}, name="tiers", penalty=PENALTY)
    milder = {"user": "1/minute", "user:penalty": "1 denial/minute -> 5s"}
    assert await ask(tiers, {"user": "k"}, limit=milder)
    assert (await ask(tiers, {"user": "k"}, 1, limit={"user": "1/day", **milder})).binding == "user"
    assert (await ask(tiers, {"user": "k"}, limit={"user": "1/s", "user:penalty": "1 denial/s -> 5s"})).retry_after == 5


async def test_slots_beside_a_penalty_are_held_and_released(bench: Bench) -> None:
    limiter = bench.limiter("concurrency 2", name="api", penalty=PENALTY)
    async with holding(limiter, "k", 2):
        assert [(await ask(limiter, "k")).binding for _ in range(3)] == ["api", "api", "api.penalty"]
    assert not await ask(limiter, "k")
    bench.clock.advance(seconds=HOUR)
    async with holding(limiter, "k", 2, timeout=0):
        pass


async def test_limiters_with_different_limits_do_not_share_a_penalty_by_default(bench: Bench) -> None:
    one, other = (bench.limiter(limit, penalty=PENALTY) for limit in ("2/minute", "3/minute"))
    await block_unnamed(one)
    assert await ask(other, "k")
    assert not await ask(bench.limiter("2/minute", penalty=PENALTY), "k")
    assert (await ask(one, "k")).binding == "penalty 3 denials/minute -> 1h of 2/minute"


async def block_unnamed(limiter: AnyLimiter) -> None:
    for _ in range(5):
        await ask(limiter, "k")


async def test_copies_and_pickles_of_a_limiter_have_its_penalty() -> None:
    limiter = Limiter("2/minute", name="api", penalty=PENALTY, store="redis://localhost:1/0")
    for made in (copy.copy(limiter), pickle.loads(pickle.dumps(limiter)), limiter._counterpart(AsyncLimiter)):
        assert made.limits == limiter.limits
    tiers = Limiter({"user": "2/minute"}, penalty=Penalty(3, per=1, block=1), store="redis://localhost:1/0")
    assert pickle.loads(pickle.dumps(tiers)).limits == tiers.limits


async def test_a_decorated_function_is_blocked(bench: Bench) -> None:
    limiter = bench.limiter("1/minute", name="api", penalty="1 denial/minute -> 1h")
    calls = []

    @limiter.limit("k")
    async def work() -> None:
        calls.append(1)

    if isinstance(limiter, Limiter):
        limiter.limit("k")(lambda: calls.append(1))()
    else:
        await work()
    assert (await ask(limiter, "k")).binding == "api.penalty"
    assert calls == [1]


# What does not fit


@pytest.mark.parametrize(
    ("limits", "penalty", "says"),
    [
        ("penalty 3/minute -> 1h", None, "watches the limits before it"),
        (["penalty 3/minute -> 1h", "5/minute"], None, "watches the limits before it"),
        (["5/minute", "penalty 3/minute -> 1h", "penalty 3/minute -> 2h"], None, "watches the limits before it"),
        ({"a:penalty": "penalty 3/minute -> 1h", "a": "5/minute"}, None, "watches the limits before it"),
        (["5/minute", "penalty 3/minute -> 1h"], PENALTY, "not both"),
        ({"a": "5/minute", "a:penalty": "3/minute"}, PENALTY, "which is what the penalty is called"),
        ({f"{number}": "5/minute" for number in range(17)}, PENALTY, "1 to 32 limits, not 34"),
    ],
)
def test_a_penalty_with_nothing_to_watch_is_refused(limits: Limits, penalty: str | None, says: str) -> None:
    with pytest.raises(InvalidUse, match=says):
        Policy(limits, penalty=penalty)


@pytest.mark.parametrize("penalty", ["3/minute", "5/minute -> 1h; burst=2", Limiter("1/s").limits["1/second"], 7, ""])
def test_what_is_no_penalty_is_refused(penalty: Any) -> None:
    with pytest.raises(LimitSyntaxError):
        Limiter("5/minute", penalty=penalty)


def test_a_lease_does_not_go_with_a_penalty() -> None:
    for kind in (Limiter, AsyncLimiter):
        with pytest.raises(InvalidUse, match="does not go with a penalty"):
            kind("5/minute", penalty=PENALTY, lease=True)


def test_a_limit_for_a_call_cannot_turn_a_penalty_into_something_else() -> None:
    single, tiers = Limiter("5/minute", penalty=PENALTY), Limiter({"user": "5/minute"}, penalty=PENALTY)
    with pytest.raises(InvalidUse, match="one is a penalty"):
        single.try_acquire("k", limit="penalty 3/minute -> 1h")
    with pytest.raises(InvalidUse, match="one is a penalty"):
        tiers.try_acquire({"user": "k"}, limit={"user:penalty": "3/minute"})


def test_keys_and_costs_of_tiers_are_those_that_were_given() -> None:
    tiers = Limiter({"user": "5/minute", "ip": "7/minute"}, penalty=PENALTY)
    for keys in ({"user": "k"}, {"user": "k", "ip": "k", "ip:penalty": "k"}):
        with pytest.raises(InvalidUse, match="tier"):
            tiers.try_acquire(keys)
    named = Limiter({"user": "5/minute", "user:penalty": PENALTY})
    with pytest.raises(InvalidUse, match="no key for the tier 'user:penalty'"):
        named.try_acquire({"user": "k"})
    with pytest.raises(InvalidUse, match="no cost for the tier 'user'"):
        named.try_acquire({"user": "k", "user:penalty": "k"}, {"user:penalty": 1})
    with pytest.raises(InvalidCost):
        named.try_acquire({"user": "k", "user:penalty": "k"}, {"user": 1, "user:penalty": -1})


# Waiting, and outages


class Waits:
    """A limiter that waits by the clock of its store, and what it asks."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        self.store = FailingStore()
        self.clock: ManualClock = self.store.clock
        self.limiter = Limiter(limits, store=self.store, name="api", on_outage="raise", **options)
        self.slept_s: list[float] = []
        port = self.limiter._port
        port.sleep = self._sleep  # type: ignore[method-assign]

    def _sleep(self, duration_us: int) -> int:
        self.slept_s.append(duration_us / 1_000_000)
        self.clock.advance(microseconds=duration_us)
        return duration_us

    @property
    def counted(self) -> int:
        return int(self.limiter.peek("k", 0).facts[-1][1])


def test_who_waits_for_a_token_bucket_reserves_beside_a_penalty() -> None:
    waits = Waits("1/minute", penalty=PENALTY)
    for _ in range(4):
        assert waits.limiter.acquire("k", timeout=600)
    assert waits.slept_s == [60, 60, 60]
    assert waits.store.asked == 4
    assert waits.counted == 0


@pytest.mark.parametrize("limit", ["1/minute", "sliding-log 1/minute", "fixed-window 1/minute"])
def test_a_wait_that_is_given_up_counts_once(limit: str) -> None:
    waits = Waits(limit, penalty=PENALTY)
    waits.limiter.acquire("k")
    for counted in (1, 2):
        with pytest.raises(AcquireTimeout):
            waits.limiter.acquire("k", timeout=1)
        assert waits.counted == counted
    with pytest.raises(AcquireTimeout) as raised:
        waits.limiter.acquire("k", timeout=0)
    assert raised.value.decision.binding == "api.penalty"
    asked = waits.store.asked
    with pytest.raises(AcquireTimeout):
        waits.limiter.acquire("k", timeout=1)
    assert waits.store.asked == asked + 1


@pytest.mark.parametrize(
    "limits", ["sliding-log 1/minute", ["1/minute", "fixed-window 50/hour"], ["1/minute", "concurrency 50"]], ids=str
)
def test_who_waits_for_its_turn_is_not_denied_meanwhile(limits: Limits) -> None:
    waits = Waits(limits, penalty="1 denial/day -> 1h")
    for _ in range(4):
        assert waits.limiter.acquire("k", timeout=600)
    assert waits.counted == 0
    assert waits.slept_s


def test_a_wait_for_slots_counts_once_when_it_is_given_up() -> None:
    waits = Waits("concurrency 1; ttl=1h", penalty=PENALTY)
    waits.limiter.acquire("k")
    with pytest.raises(AcquireTimeout):
        waits.limiter.acquire("k", timeout=2)
    assert len(waits.slept_s) > 5
    assert waits.counted == 1


def test_who_can_wait_for_so_long_waits_until_the_block_is_over() -> None:
    waits = Waits("2/minute", penalty=PENALTY)
    for _ in range(5):
        waits.limiter.try_acquire("k")
    with pytest.raises(AcquireTimeout):
        waits.limiter.acquire("k", timeout=HOUR - 1)
    assert waits.slept_s == []
    assert waits.limiter.acquire("k", timeout=2 * HOUR)
    assert HOUR <= sum(waits.slept_s) < HOUR + 1


@pytest.mark.parametrize("on_outage", ["open", "closed"])
def test_an_outage_is_answered_as_ever(on_outage: Any) -> None:
    store = FailingStore()
    limiter = Limiter("2/minute", store=store, name="api", on_outage=on_outage, penalty=PENALTY)
    store.is_down = True
    for _ in range(5):
        assert limiter.try_acquire("k").source == f"fail_{on_outage}"
    if on_outage == "closed":
        with pytest.raises(AcquireTimeout):
            limiter.acquire("k", timeout=0.1)
    store.is_down = False
    assert limiter.try_acquire("k").remaining == 1


def test_the_memory_store_tells_apart_what_it_keeps_for_penalties() -> None:
    store = MemoryStore(ManualClock())
    limiter = Limiter("1/minute", store=store, penalty=PENALTY)
    for number in range(5):
        limiter.try_acquire(f"k{number}")
    assert len(store) == 5  # who was never denied owes a penalty nothing
    limiter.try_acquire("k0")
    assert len(store) == 6

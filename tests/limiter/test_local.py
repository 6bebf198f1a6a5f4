"""`on_outage="local"`: while the store does not answer, a share of the limit decides in memory."""

from __future__ import annotations

import ast
import asyncio
import copy
import gc
import logging
import pickle
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    Concurrency,
    Decision,
    FixedWindow,
    InvalidUse,
    Limiter,
    LimitOutOfBounds,
    ManualClock,
    MemoryStore,
    Penalty,
    SlidingLog,
    SlidingWindow,
    StoreOutage,
    StoreUnavailable,
    TokenBucket,
)
from headgate.config.loading import load
from headgate.config.metrics import Counts
from headgate.config.process import Configured
from headgate.hits import Group, Hit
from headgate.limiter import local
from headgate.limiter.local import LocalShare, around, share_of
from headgate.limits import Limit
from headgate.observe.labels import part_of, policy_of, result_of
from headgate.rules import Rule
from headgate.stores.registry import open_store
from headgate.web.starlette import RateLimits
from tests.limiter.bench import told
from tests.profiles import quickly
from tests.servers import eventually, free_port, own_valkey


class Failing:
    """A store that can be out, and counts what it is asked."""

    timeout = 1.0

    def __init__(self, clock: ManualClock) -> None:
        self.inner = MemoryStore(clock)
        self.is_out = False
        self.asked: list[Group] = []

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        self.asked += groups
        if self.is_out:
            raise StoreUnavailable("test://", "it is out")
        return self.inner.decide(groups)

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        return self.decide(groups)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class Bench:
    """A limiter on a store that can be out."""

    def __init__(self, kind: type[Limiter] | type[AsyncLimiter]) -> None:
        self.kind = kind
        self.clock = ManualClock()
        self.store = Failing(self.clock)

    def limiter(self, limit: Any, instances: int = 4, **options: Any) -> Any:
        made = self.kind(limit, store=self.store, name="n", on_outage="local", instances=instances, **options)
        share = made._parts.outage_rule.local = LocalShare(instances, self.clock)  # by the test's clock
        made._local = share
        return made


@pytest.fixture(params=[Limiter, AsyncLimiter], ids=["blocking", "awaited"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


async def admitted(limiter: Any, key: str = "k", times: int = 50) -> int:
    return sum([(await told(limiter.try_acquire(key))).allowed for _ in range(times)])


LIMITS = [
    TokenBucket(20, per=60),
    FixedWindow(20, per=60),
    FixedWindow(20, per="day", tz="Europe/Berlin"),
    SlidingWindow(20, per=60),
    SlidingLog(20, per=60),
    Concurrency(20, ttl=60),
]


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_each_instance_admits_its_share(bench: Bench, limit: Any) -> None:
    limiter = bench.limiter(limit)
    assert await admitted(limiter, "store") == 20
    bench.store.is_out = True
    assert await admitted(limiter) == 5
    decision = await told(limiter.try_acquire("k"))
    assert (decision.allowed, decision.source, decision.limit, decision.binding) == (False, "local", 5, "n")
    assert decision.retry_after > 0
    assert (await told(limiter.peek("other"))).remaining == 5
    assert await admitted(limiter, "store") == 5  # what the store knew is not known here


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_what_is_left_and_when_is_told_exactly(bench: Bench, limit: Any) -> None:
    limiter = bench.limiter(limit)
    bench.store.is_out = True
    await admitted(limiter)
    wait_us = (await told(limiter.try_acquire("k"))).retry_after_us
    bench.clock.advance(microseconds=wait_us - 1)
    if not isinstance(limit, Concurrency):
        assert not await told(limiter.try_acquire("k"))
    bench.clock.advance(microseconds=1)
    assert await told(limiter.try_acquire("k"))


async def test_one_instance_has_all(bench: Bench) -> None:
    limiter = bench.limiter("20/minute", 1)
    bench.store.is_out = True
    assert await admitted(limiter) == 20


async def test_flapping_gives_no_fresh_share(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    for _ in range(10):
        bench.store.is_out = True
        await admitted(limiter, times=1)
        bench.store.is_out = False
        await told(limiter.peek("k"))
    bench.store.is_out = True
    assert await admitted(limiter) == 0


async def test_when_the_store_is_back_it_decides_by_what_it_knew(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    await admitted(limiter, times=15)
    bench.store.is_out = True
    assert await admitted(limiter) == 5
    bench.store.is_out = False
    assert await admitted(limiter) == 5  # in all: 20, and the share
    assert (await told(limiter.try_acquire("k"))).source == "store"


async def test_refunds_and_settlements_find_back(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    of_store = await told(limiter.try_acquire("k", 10))
    bench.store.is_out = True
    local = await told(limiter.try_acquire("k", 5))
    await told(limiter.refund(of_store))  # the store is out: its tokens are not given back here
    assert not await told(limiter.try_acquire("k"))
    await told(limiter.refund(local))
    settled = await told(limiter.settle(await told(limiter.try_acquire("k", 2)), 4))
    assert (settled.remaining, settled.source) == (1, "local")
    bench.store.is_out = False
    other = await told(limiter.try_acquire("k"))
    bench.store.is_out = True
    late = await told(limiter.try_acquire("k"))
    assert late.source == "local"
    bench.store.is_out = False
    asked = len(bench.store.asked)
    await told(limiter.refund(late))  # of the share, though the store is back
    assert len(bench.store.asked) == asked
    assert (await told(limiter.peek("k"))).remaining == 20 - 10 - 1
    await told(limiter.refund(other))
    with pytest.raises(InvalidUse, match="refunded or settled before"):
        await told(limiter.refund(late))


async def test_reset_forgets_the_share_too(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    bench.store.is_out = True
    await admitted(limiter)
    with pytest.raises(StoreOutage):
        await told(limiter.reset("k"))
    assert await admitted(limiter) == 5


async def test_a_cost_above_the_share_is_denied_and_no_error(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    bench.store.is_out = True
    decision = await told(limiter.try_acquire("k", 6))
    assert (decision.allowed, decision.source, decision.retry_after) == (False, "local", 1.0)
    assert await admitted(limiter) == 5  # nothing was spent


async def test_groups_and_tiers_stand_or_fall_together(bench: Bench) -> None:
    limiter = bench.limiter({"user": "8/minute", "all": "12/minute"})
    bench.store.is_out = True
    keys = [{"user": user, "all": "*"} for user in ("a", "b")]
    decisions = [await told(limiter.try_acquire(keys[number % 2])) for number in range(6)]
    assert [decision.allowed for decision in decisions] == [True] * 3 + [False] * 3
    assert decisions[-1].binding == "all"
    assert (await told(limiter.peek({"user": "b", "all": "new"}))).remaining == 1


async def test_a_limit_of_this_call_has_a_share(bench: Bench) -> None:
    limiter = bench.limiter("20/minute")
    bench.store.is_out = True
    found = [(await told(limiter.try_acquire("k", limit="40/minute"))).allowed for _ in range(12)]
    assert sum(found) == 10


async def test_penalties_block_here_too(bench: Bench) -> None:
    limiter = bench.limiter("4/minute", penalty="3 denials/minute -> 1h")
    bench.store.is_out = True
    assert await admitted(limiter, times=5) == 1
    assert (await told(limiter.try_acquire("k"))).retry_after > 3_000


async def test_a_place_in_the_queue_is_given_here(bench: Bench) -> None:
    limiter = bench.limiter("4000/second; burst=4")
    bench.store.is_out = True
    first, second = [await told(limiter.acquire("k", timeout=5)) for _ in range(2)]
    assert (first.source, second.source) == ("local", "local")
    assert second.wait_us == 1_000
    limiter = bench.limiter("4/day")
    await told(limiter.acquire("k"))
    with pytest.raises(AcquireTimeout):
        await told(limiter.acquire("k", timeout=1))


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("is_back", [False, True])
async def test_slots_are_held_and_released_here(kind: Any, is_back: bool) -> None:
    bench = Bench(kind)
    limiter = bench.limiter(Concurrency(4, ttl=60), 2)
    bench.store.is_out = True
    block = limiter.hold("k")
    hold = await block.__aenter__() if kind is AsyncLimiter else block.__enter__()
    assert hold.decision.source == "local"
    assert await told(limiter.try_acquire("k"))
    assert not await told(limiter.try_acquire("k"))
    bench.store.is_out = not is_back
    asked = len(bench.store.asked)
    await (
        block.__aexit__(None, None, None)
        if kind is AsyncLimiter
        else asyncio.to_thread(block.__exit__, None, None, None)
    )
    assert len(bench.store.asked) == asked
    bench.store.is_out = True
    assert await told(limiter.try_acquire("k"))


def test_renewals_go_to_who_gave_the_slot() -> None:
    bench = Bench(Limiter)
    limiter = bench.limiter(Concurrency(4, ttl=60), 2)
    of_store = limiter.try_acquire("k")
    bench.store.is_out = True
    local = limiter.try_acquire("k")
    bench.store.is_out = False
    ask = around(bench.store.decide)
    groups = [Group(decision.group.hits, 0, "renew") for decision in (local, of_store, local)]
    bench.clock.advance(50)
    assert [answer.allowed for answer in ask(groups)] == [True, True, True]
    bench.clock.advance(50)  # renewed, or they would have expired
    assert [answer.allowed for answer in ask(groups[:2])] == [True, True]


def test_a_change_of_state_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Limiter)
    limiter = bench.limiter("20/minute")
    with caplog.at_level(logging.WARNING, "headgate"):
        for is_out in (True, False):
            bench.store.is_out = is_out
            for _ in range(3):
                limiter.try_acquire("k")
    assert [record.getMessage() for record in caplog.records] == [
        "headgate: store test://: it is out; limiter 'n' answers 'local' until it is back",
        "headgate: the store of limiter 'n' answers again",
    ]


# The share


@pytest.mark.parametrize(
    ("limit", "instances", "share"),
    [
        ("100/minute", 4, "100/4m; burst=25"),
        ("3/second; burst=10", 4, "3/4s; burst=2"),
        ("1/minute", 4, "1/4m"),
        ("fixed-window 10/hour", 4, "fixed-window 2/hour"),
        ("fixed-window 10/day; tz=Europe/Berlin", 3, "fixed-window 3/day; tz=Europe/Berlin"),
        ("sliding-window 7/minute", 2, "sliding-window 3/minute"),
        ("sliding-log 3/minute", 4, "sliding-log 1/80s"),
        ("sliding-window 1/minute", 4, "sliding-window 1/4m"),
        ("fixed-window 3/minute", 7, "fixed-window 1/140s"),
        ("fixed-window 7/second", 8, "fixed-window 1/1142858us"),
        ("fixed-window 3/day; tz=Europe/Berlin", 4, "fixed-window 1/day; tz=Europe/Berlin"),
        ("fixed-window 3/month", 4, "fixed-window 1/month"),
        ("concurrency 3", 4, "concurrency 1"),
        ("concurrency 50", 8, "concurrency 6"),
        ("100/minute", 1, "100/minute"),
    ],
)
def test_a_share_is_rounded_down_and_never_to_nothing(limit: str, instances: int, share: str) -> None:
    from headgate.limits.grammar import parse_limit

    assert share_of(parse_limit(limit), instances) == parse_limit(share)


def test_a_penalty_is_shared_by_nobody() -> None:
    penalty = Penalty(3, 60, block=60)
    assert share_of(penalty, 4) is penalty


class Instances:
    """Some processes on one store, which each of them may find out or not."""

    def __init__(self, limit: Limit, instances: int) -> None:
        self.clock = ManualClock()
        inner = MemoryStore(self.clock)
        self.stores: list[Failing] = []
        self.limiters: list[Limiter] = []
        for _ in range(instances):
            bench = Bench(Limiter)
            bench.clock, bench.store.inner = self.clock, inner
            self.stores.append(bench.store)
            self.limiters.append(bench.limiter(limit, instances))

    def play(self, moves: Sequence[tuple[int, int, bool, int, bool]]) -> dict[str, list[tuple[int, int]]]:
        """What was admitted and not given back, by who admitted it: when, and how much."""
        admitted: dict[str, list[tuple[int, int]]] = {"store": [], "local": []}
        for us, some, is_out, cost, is_refunded in moves:
            self.clock.advance(microseconds=us)
            number = some % len(self.limiters)
            store, limiter = self.stores[number], self.limiters[number]
            store.is_out = is_out
            decision = limiter.try_acquire("k", min(cost, next(iter(limiter.limits.values())).capacity))
            assert decision.source == ("local" if is_out else "store")
            if decision and is_refunded:
                store.is_out = decision.source == "local" and cost % 2 == 0  # though it may be back
                limiter.refund(decision)
            elif decision:
                admitted[decision.source].append((self.clock(), decision.cost))
        return admitted


def most_in_windows(limit: Limit, spent: Sequence[tuple[int, int]]) -> int:
    assert isinstance(limit, FixedWindow)
    windows: Counter[int] = Counter()
    for at_us, cost in spent:
        windows[limit.window(at_us)[0]] += cost
    return max(windows.values(), default=0)


def most_in_view(period_us: int, spent: Sequence[tuple[int, int]]) -> int:
    return max((sum(cost for at, cost in spent if end - period_us < at <= end) for end, _ in spent), default=0)


moves = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 999, 100_000, 250_000, 333_333, 1_000_000, 4_000_000]) | st.integers(0, 300_000),
        st.integers(0, 7),
        st.booleans(),
        st.integers(1, 4),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=60,
)


@settings(max_examples=quickly(150))
@given(rate=st.integers(1, 50), burst=st.integers(1, 60), instances=st.integers(1, 8), moves=moves)
def test_buckets_admit_the_limit_once_more_at_most(rate: int, burst: int, instances: int, moves: Any) -> None:
    """In each interval of length t: the store `burst + rate * t`, and all shares as much, with one token for each
    instance where that is more than the burst. In millionths of a token.
    """
    admitted = Instances(TokenBucket(rate, per=1, burst=burst), instances).play(moves)
    for who, most in (("store", burst), ("local", instances * max(1, burst // instances))):
        assert most <= max(burst, instances)
        lowest = spent = 0
        for at_us, cost in admitted[who]:
            lowest = min(lowest, spent * 1_000_000 - rate * at_us) if spent else -rate * at_us
            spent += cost
            assert spent * 1_000_000 - rate * at_us - lowest <= most * 1_000_000


@settings(max_examples=quickly(100))
@given(rate=st.integers(1, 12), instances=st.integers(1, 8), moves=moves)
def test_windows_admit_the_limit_once_more_at_most(rate: int, instances: int, moves: Any) -> None:
    limit = FixedWindow(rate, per=1)
    share = share_of(limit, instances)
    admitted = Instances(limit, instances).play(moves)
    assert most_in_windows(limit, admitted["store"]) <= rate
    assert instances * share.rate * limit.period_us <= rate * share.period_us  # in the long run
    assert most_in_windows(share, admitted["local"]) <= instances * share.rate <= max(rate, instances)


@settings(max_examples=quickly(100))
@given(rate=st.integers(1, 12), instances=st.integers(1, 8), moves=moves)
def test_logs_admit_the_limit_once_more_at_most(rate: int, instances: int, moves: Any) -> None:
    limit = SlidingLog(rate, per=1)
    share = share_of(limit, instances)
    admitted = Instances(limit, instances).play(moves)
    assert most_in_view(limit.period_us, admitted["store"]) <= rate
    assert instances * share.rate * limit.period_us <= rate * share.period_us
    assert most_in_view(share.period_us, admitted["local"]) <= instances * share.rate <= max(rate, instances)


def test_a_share_that_would_take_too_long_to_fill_is_refused() -> None:
    with pytest.raises(LimitOutOfBounds, match="the share of 1/30d among 1000 instances: "):
        Limiter("1/30d", on_outage="local", instances=1_000)


@pytest.mark.parametrize("instances", [0, -1, 1.5, "4", True, 10**7])
def test_instances_that_are_no_number_of_processes_are_refused(instances: Any) -> None:
    with pytest.raises(InvalidUse, match="instances is a number of processes"):
        Limiter("5/s", on_outage="local", instances=instances)


def test_instances_go_with_local_alone() -> None:
    with pytest.raises(InvalidUse, match="instances goes with on_outage='local'"):
        Limiter("5/s", instances=4)


# Other limits for as long as the store is away


async def spent(limiter: Any, key: Any = "k", **options: Any) -> int:
    """How many requests are admitted until one is denied."""
    count = 0
    while await ask(limiter.try_acquire(key, **options)):
        count += 1
        assert count < 1000
    return count


async def ask(answer: Any) -> Any:
    return await answer if isinstance(answer, Awaitable) else answer


def away(kind: type[Limiter] | type[AsyncLimiter], limit: Any, **options: Any) -> Any:
    """A limiter whose store is away, and whose name nobody else has."""
    store = Failing(ManualClock())
    store.is_out = True
    options.setdefault("name", secrets.token_hex(4))
    return kind(limit, store=store, on_outage="local", **options)


KINDS = pytest.mark.parametrize("kind", [Limiter, AsyncLimiter], ids=["blocking", "awaited"])


@KINDS
@pytest.mark.parametrize(
    ("limit", "options", "admitted"),
    [
        ("100/hour", {"outage_limit": "10/hour"}, 10),
        ("100/hour", {"outage_limit": "10/hour", "instances": 4}, 2),
        ("100/hour", {"outage_limit": "fixed-window 10/day", "instances": 2}, 5),
        ("sliding-log 5/hour", {"outage_limit": "100/hour"}, 100),
        (["100/hour", "500/day"], {"outage_limit": "8/hour", "instances": 2}, 4),
        ("100/hour", {"outage_limit": "8/hour", "penalty": "900 denials/hour -> 1d"}, 8),
    ],
)
async def test_another_limit_is_shared_while_the_store_is_away(
    kind: Any, limit: Any, options: Any, admitted: int
) -> None:
    limiter = away(kind, limit, **options)
    assert await spent(limiter) == admitted
    assert (await ask(limiter.try_acquire("k"))).source == "local"
    with pytest.raises(StoreOutage):
        await ask(limiter.reset("k"))
    assert await spent(limiter) == admitted  # what is known here was forgotten


@KINDS
async def test_a_limit_of_a_call_is_replaced_too_and_counts_with_the_others(kind: Any) -> None:
    limiter = away(kind, "fixed-window 5/minute", outage_limit="6/hour")
    assert [bool(await ask(limiter.try_acquire("k", limit="fixed-window 900/hour"))) for _ in range(4)] == [True] * 4
    assert await spent(limiter) == 2


@KINDS
async def test_tiers_have_other_limits_by_name_and_slots_keep_theirs(kind: Any) -> None:
    limits = {"user": "100/hour", "ip": "50/hour", "slots": "concurrency 9"}
    keys = {"user": "u", "ip": "i", "slots": "s"}
    assert await spent(away(kind, limits, outage_limit={"user": "3/hour"}), keys) == 3
    assert await spent(away(kind, limits, outage_limit={"ip": "90/hour"}), keys) == 9
    assert await spent(away(kind, limits, outage_limit="7/hour"), keys) == 7


@KINDS
async def test_what_was_taken_of_another_limit_goes_back_there(kind: Any) -> None:
    limiter = away(kind, "100/hour", outage_limit="10/hour")
    decision = await ask(limiter.try_acquire("k", 10))
    assert decision
    await ask(limiter.refund(decision))
    assert (await ask(limiter.try_acquire("k", 10))).limit == 10
    assert not await ask(limiter.try_acquire("j", 11))  # never, by this limit


async def test_the_store_that_is_there_asks_for_the_limit_itself() -> None:
    limiter = Limiter("5/hour", on_outage="local", outage_limit="2/hour")
    assert await spent(limiter) == 5
    assert await spent(copy.copy(limiter), "j") == 5
    assert pickle.loads(pickle.dumps(Limiter("5/hour", store="redis://h", on_outage="local", outage_limit="2/hour")))


@pytest.mark.parametrize(
    ("limit", "options", "message"),
    [
        ("5/s", {"outage_limit": "1/s"}, "outage_limit goes with on_outage='local'"),
        ("5/s", {"outage_limit": "concurrency 5", "on_outage": "local"}, "is one of tokens"),
        ("concurrency 5", {"outage_limit": "5/s", "on_outage": "local"}, "is one of tokens"),
        ({"a": "5/s"}, {"outage_limit": {"b": "5/s"}, "on_outage": "local"}, "no limit 'b' of tokens; there are a"),
        ({"a": "5/s"}, {"outage_limit": {}, "on_outage": "local"}, "is one of tokens"),
    ],
)
def test_another_limit_that_does_not_fit_is_refused(limit: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidUse, match=message):
        Limiter(limit, **options)
    with pytest.raises(LimitOutOfBounds, match="the share of 1/30d among 1000 instances: "):
        Limiter("5/s", on_outage="local", instances=1_000, outage_limit="1/30d")


# On a real server


INSTANCE = """
import asyncio, sys
from headgate import AsyncLimiter, Limiter
kind, url, prefix = sys.argv[1:]
made = {"blocking": Limiter, "awaited": AsyncLimiter}[kind](
    "100/hour", store=url, prefix=prefix, name="n", on_outage="local", instances=4, timeout=2
)
loop = asyncio.new_event_loop()
for line in sys.stdin:
    decisions = []
    for _ in range(int(line)):
        asked = made.try_acquire("k")
        decisions.append(asked if kind == "blocking" else loop.run_until_complete(asked))
    counted = {}
    for one in decisions:
        if one.allowed:
            counted[one.source] = counted.get(one.source, 0) + 1
    print(counted, decisions[-1].source, flush=True)
"""


class Process:
    """An instance in a process of its own."""

    def __init__(self, kind: str, url: str, prefix: str) -> None:
        command = [sys.executable, "-c", INSTANCE, kind, url, prefix]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, times: int) -> tuple[dict[str, int], str]:
        """How many were admitted by whom, and who decided on the last."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        counted, _, last = self.process.stdout.readline().rpartition(" ")
        return ast.literal_eval(counted), last.strip()

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
def test_while_a_server_is_away_its_instances_share_the_limit(prefix: str, kind: str) -> None:
    with own_valkey() as valkey:
        instances = [Process(kind, valkey.url, prefix) for _ in range(4)]
        assert [one.ask(15) for one in instances] == [({"store": 15}, "store")] * 4
        valkey.stop()
        assert [one.ask(40) for one in instances] == [({"local": 25}, "local")] * 4
        valkey.start()  # empty, as it does not write to disk

        def is_back(one: Process) -> bool:
            counted, last = one.ask(1)
            by_store.update(counted)
            return last == "store"

        by_store: Counter[str] = Counter()
        for one in instances:
            eventually(lambda one=one: is_back(one), "it asks the store again")  # type: ignore[misc]  # it is called here
        assert by_store["local"] == 0  # a share that was spent stays so
        valkey.stop()
        assert [one.ask(40)[0] for one in instances] == [{}] * 4
        for one in instances:
            one.close()


# One share for each process


def far_away(**options: Any) -> Any:
    return {"store": f"redis://127.0.0.1:{free_port()}/0", "name": "n", "on_outage": "local", "instances": 4, **options}


def test_limiters_of_one_name_have_one_share_in_a_process() -> None:
    same = far_away()
    limiters = [Limiter("20/hour", **same), Limiter("20/hour", **same, timeout=1)]
    found = [limiter.try_acquire("k") for limiter in limiters for _ in range(2)]
    assert [decision.remaining for decision in found] == [4, 3, 2, 1]
    assert asyncio.run(AsyncLimiter("20/hour", **same).try_acquire("k")).remaining == 0
    assert Limiter("20/hour", **same, prefix="another").try_acquire("k").remaining == 4
    assert Limiter("20/hour", **{**same, "name": "m"}).try_acquire("k").remaining == 4


def test_a_limiter_that_is_made_anew_has_no_fresh_share() -> None:
    same, admitted = far_away(), 0
    for _ in range(5):
        with Limiter("20/hour", **same) as limiter:
            admitted += sum(limiter.try_acquire("k").allowed for _ in range(3))
        del limiter
        gc.collect()
    assert admitted == 5


async def test_a_rule_has_one_share_whatever_rules_are_asked_with_it() -> None:
    async def here(_: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    options: Any = {"on_outage": "local", "instances": 4}
    rules = [Rule("20/hour", name="all", **options), Rule("400/hour", name="one", paths="/one", **options)]
    app = Starlette(routes=[Route("/", here), Route("/one", here)])
    RateLimits(*rules, store=f"redis://127.0.0.1:{free_port()}/0", app=app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        codes = [(await client.get("/one" if number % 2 else "/")).status_code for number in range(8)]
    assert codes == [200] * 5 + [429] * 3


ELSEWHERE = """
import pickle, sys
from headgate import Limiter
made = Limiter("20/hour", store=sys.argv[1], name="n", on_outage="local", instances=4)
sys.stdout.buffer.write(pickle.dumps([made.try_acquire("k", 2) for _ in range(2)]))
"""


async def test_another_processs_decision_gives_nothing_back_here_nor_to_the_store(bench: Bench) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    command = [sys.executable, "-c", ELSEWHERE, url]
    first, second = pickle.loads((await asyncio.to_thread(subprocess.run, command, stdout=-1, check=True)).stdout)
    assert (first.allowed, first.source, second.remaining) == (True, "local", 1)
    limiter = bench.limiter("20/hour")
    bench.store.is_out = True
    assert await told(limiter.try_acquire("k", 5))
    await told(limiter.refund(first))
    assert (await told(limiter.settle(second, 5))).cost == 5
    assert (await told(limiter.peek("k"))).remaining == 0
    bench.store.is_out = False
    assert (await told(limiter.peek("k"))).remaining == 20


async def test_a_limiter_without_a_share_gives_it_back_to_who_decided(bench: Bench) -> None:
    limiter, other = bench.limiter("20/hour"), bench.kind("20/hour", store=bench.store, name="n")
    bench.store.is_out = True
    first, second = [await told(limiter.try_acquire("k", 2)) for _ in range(2)]
    bench.store.is_out = False
    bench.store.asked.clear()
    await told(other.refund(first))
    await told(other.settle(second, 1))
    assert bench.store.asked == []
    bench.store.is_out = True
    assert (await told(limiter.peek("k"))).remaining == 4


def test_another_processs_slot_cannot_be_renewed_here() -> None:
    unknown = Hit(Concurrency(4), "k", "\0" + "0" * 16 + "n", 1, "ff.60000000")
    assert [answer.allowed for answer in around(list)([Group((unknown,), 0, "renew")])] == [False]  # type: ignore[arg-type]


def test_a_limit_of_a_call_that_cannot_be_shared_is_denied_and_no_error() -> None:
    limiter = Limiter("20/hour", **far_away(instances=1_000))
    for limit in ("1/30d", "fixed-window 1/30d", "sliding-log 1/1000d"):
        decision = limiter.try_acquire("k", limit=limit)
        assert (decision.allowed, decision.source, decision.retry_after) == (False, "local", 1.0)


def test_places_of_which_a_share_is_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_PLACES", 3)
    monkeypatch.setattr(local, "_by_place", {})
    same = far_away()
    limiters = [Limiter("20/hour", **same, prefix=f"p{number}") for number in range(9)]
    assert [sum(limiter.try_acquire("k").allowed for _ in range(9)) for limiter in limiters] == [5] * 9
    assert len(local._by_place) == 3


def test_metrics_tell_a_share_from_the_store() -> None:
    decision = Limiter("20/hour", **far_away()).try_acquire("k")
    assert (result_of(decision), policy_of("n", part_of(decision))) == ("degraded_allowed", "n")
    counts = Counts()
    counts.decided(decision)
    assert counts._in_outage == 1


# From a file


def test_a_configured_limiter_may_have_a_share() -> None:
    said = {
        "stores": {"main": {"url": f"redis://127.0.0.1:{free_port()}"}},
        "limiters": {"api": {"limit": "20/minute", "on_outage": "local", "instances": 4}},
    }
    configured = Configured()
    configured.replace(load(said))
    limiter = configured.limiter("api").limiter
    assert sum(limiter.try_acquire("k").allowed for _ in range(20)) == 5
    limiter.close()


async def test_a_rule_of_an_app_may_have_a_share() -> None:
    async def here(_: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    app = Starlette(routes=[Route("/", here)])
    RateLimits(Rule("20/minute", on_outage="local", instances=4), store=f"redis://127.0.0.1:{free_port()}", app=app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        codes = [(await client.get("/")).status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://u:secret@h:1/2", {"prefix": "p"}),
        ("redis://u:secret@h:1/2", {"hash_tag": "t"}),
        ("redis+cluster://u:secret@h:1", {"prefix": "p"}),
        ("postgresql://u:secret@h/db", {"schema": "s"}),
        ("nats://u:secret@h/other", {}),
        ("nats://u:secret@h?prefix=p", {}),
        ("sqlite:////tmp/somewhere.db", {"prefix": "p"}),
    ],
)
def test_a_store_says_its_place_and_no_password(url: str, options: dict[str, Any]) -> None:
    place, plain = (open_store(url, **given).place for given in (options, {}))  # type: ignore[attr-defined]
    assert place == open_store(url, timeout=2, **options).place  # type: ignore[attr-defined]
    assert "secret" not in str(place)
    assert (place != plain) == bool(options)

"""What other rate limiters got wrong, and what users of theirs reported. None of it may happen here."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from headgate import (
    AsyncLimiter,
    Concurrency,
    CostExceedsCapacity,
    FixedWindow,
    InvalidCost,
    Limit,
    Limiter,
    LimitExceeded,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    Store,
    TokenBucket,
)
from headgate.decision import copies
from headgate.limiter.naming import Limits
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT, Traffic
from tests.servers import OwnValkey, eventually, own_valkey, store_by_clock


class Bench:
    """A store, by a clock that stands still."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    def limiter(self, limit: Limits, name: str | None = None) -> Limiter:
        return Limiter(limit, store=self.store, name=name, on_outage="raise")


@pytest.fixture(params=["memory", "valkey"])
async def bench(request: pytest.FixtureRequest, valkey_url: str, prefix: str) -> AsyncIterator[Bench]:
    """By a clock that stands still. The server's expiry does not: what is owed in a test must last some seconds."""
    clock = ManualClock()
    store = store_by_clock(request.param, valkey_url, prefix, clock)
    yield Bench(store, clock)
    await store.aclose()


@pytest.fixture
def server() -> Iterator[OwnValkey]:
    with own_valkey() as made:
        yield made


# --- keys that expire before their debt ---


@pytest.mark.parametrize(
    ("limit", "cost", "seconds"),
    [
        (TokenBucket(1, per=1, burst=1000), 1000, 1000),
        (TokenBucket(1, per=1, burst=1000), 1, 1),
        (TokenBucket(100, per=1, burst=40), 40, 0.4),
        (TokenBucket(1, per=86_400, burst=30), 30, 30 * 86_400),
        (SlidingLog(5, per=300), 5, 300),
        (Concurrency(5, ttl=90), 5, 90),
    ],
    ids=str,
)
def test_a_key_lives_as_long_as_its_debt_and_hardly_longer(
    valkey_url: str, prefix: str, limit: Limit, cost: int, seconds: float
) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    decision = Limiter(limit, store=store, on_outage="raise").try_acquire("k", cost)
    assert decision.reset_after == seconds
    with redis.Redis.from_url(valkey_url) as admin:
        (key,) = admin.keys(f"{prefix}:*")
        expires_at_us = int(admin.pexpiretime(key)) * 1_000
    store.close()
    ends_at_us = decision.now_us + decision.reset_after_us
    assert ends_at_us <= expires_at_us <= ends_at_us + 2_000


def test_windows_live_until_they_are_out_of_view(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    for limit, periods in ((FixedWindow(5, per=3600), 1), (SlidingWindow(5, per=3600), 2)):
        decision = Limiter(limit, store=store, on_outage="raise").try_acquire("k", 5)
        start = decision.now_us - decision.now_us % 3_600_000_000
        with redis.Redis.from_url(valkey_url) as admin:
            key = f"{prefix}:{{k}}:{str(limit).replace('%', '%25').replace(':', '%3A')}:{limit.code}"
            expires_at_us = int(admin.pexpiretime(key)) * 1_000
        ends_at_us = start + periods * 3_600_000_000
        assert ends_at_us <= expires_at_us <= ends_at_us + 2_000
    store.close()


def test_every_key_expires_by_itself(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    kinds = [
        "5/minute",
        "fixed-window 5/day; tz=Europe/Berlin",
        "sliding-window 5/s",
        "sliding-log 5/s",
        "concurrency 5",
    ]
    limiter = Limiter(kinds, store=store, on_outage="raise")
    for cost in (1, 2, 0, 9):
        for key in ("a", "b"):
            try:
                decision = limiter.try_acquire(key, cost)
                limiter.settle(decision, 7)
            except CostExceedsCapacity:
                pass
    with redis.Redis.from_url(valkey_url) as admin:
        keys = list(admin.scan_iter(f"{prefix}:*"))
        assert len(keys) >= 8
        assert all(admin.pttl(key) > 0 for key in keys)
    store.close()


def test_a_peek_or_a_denial_leaves_no_key_behind(valkey_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies._forks, "last_us", None)  # after a fork, a refund leaves a mark, so that it counts once
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    kinds = ["5/minute", "fixed-window 5/day", "sliding-window 5/s", "sliding-log 5/s", "concurrency 5"]
    limiter = Limiter(kinds, store=store, on_outage="raise")
    limiter.peek("k", 5)
    limiter.try_acquire("k", 0)
    limiter.reset("k")
    limiter.refund(limiter.try_acquire("k"))
    with redis.Redis.from_url(valkey_url) as admin:
        assert list(admin.scan_iter(f"{prefix}:*")) == []
    store.close()


def test_a_drained_bucket_is_not_full_again_after_twice_its_period(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(1, per=1, burst=1000))
    assert limiter.try_acquire("k", 1000)
    bench.clock.advance(seconds=2.2)
    assert [bool(limiter.try_acquire("k")) for _ in range(5)] == [True, True, False, False, False]


def test_a_small_burst_at_a_high_rate_is_kept(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter(TokenBucket(100, per=1, burst=40), store=store, on_outage="raise")
    decisions = [limiter.try_acquire("k") for _ in range(1000)]
    store.close()
    elapsed_us = decisions[-1].now_us - decisions[0].now_us
    assert 40 <= sum(map(bool, decisions)) <= 40 + elapsed_us * 100 // 1_000_000


# --- arithmetic ---


def test_54_a_minute_asked_once_a_second_admits_540_in_ten_minutes(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(54, per=60))
    assert limiter.try_acquire("k", 54)
    admitted = 0
    for _ in range(600):
        bench.clock.advance(seconds=1)
        admitted += bool(limiter.try_acquire("k"))
    assert admitted == 540


@pytest.mark.parametrize("step_us", [1, 333_333, 999_999, 1_111_111])
def test_fractions_of_tokens_are_never_lost(bench: Bench, step_us: int) -> None:
    limiter = bench.limiter(TokenBucket(7, per=3, burst=50))
    start = bench.clock()
    assert limiter.try_acquire("k", 50)
    admitted = 0
    for _ in range(400):
        bench.clock.advance(microseconds=step_us)
        admitted += bool(limiter.try_acquire("k", 1))
    assert admitted == min(400, (bench.clock() - start) * 7 // 3_000_000)


def test_millions_a_second_are_counted_to_the_microsecond(bench: Bench) -> None:
    limiter = bench.limiter(TokenBucket(5_000_000, per=1, burst=100_000_000))
    assert limiter.try_acquire("k", 100_000_000)
    assert not limiter.try_acquire("k")
    for _ in range(10):
        bench.clock.advance(microseconds=1)
        assert limiter.try_acquire("k", 5)
        assert not limiter.try_acquire("k")


def test_less_than_one_a_day_is_a_limit_too(bench: Bench) -> None:
    for limit in (TokenBucket(1, per=7 * 86_400), SlidingLog(1, per=7 * 86_400)):
        limiter = bench.limiter(limit)
        assert limiter.try_acquire("k")
        denied = limiter.try_acquire("k")
        assert denied.retry_after == 7 * 86_400
        bench.clock.advance(seconds=7 * 86_400 - 0.000_001)
        assert not limiter.try_acquire("k")
        bench.clock.advance(microseconds=1)
        assert limiter.try_acquire("k")


@pytest.mark.parametrize(
    "limit", [TokenBucket(3, per=0.5), FixedWindow(3, 0.5), SlidingWindow(3, 0.5), SlidingLog(3, 0.5)], ids=str
)
def test_half_a_second_is_a_period(limit: Limit) -> None:
    clock = ManualClock()
    limiter = Limiter(limit, store=MemoryStore(clock))
    assert [bool(limiter.try_acquire("k")) for _ in range(5)] == [True, True, True, False, False]
    clock.advance(seconds=1)
    assert [bool(limiter.try_acquire("k")) for _ in range(5)] == [True, True, True, False, False]


def test_rates_above_a_hundred_a_second_are_limits_too(bench: Bench) -> None:
    for rate in (50, 100, 101, 1_000, 20_000):
        limiter = bench.limiter(TokenBucket(rate, per=1, burst=20 * rate))
        assert limiter.try_acquire("k", 20 * rate)
        admitted = 0
        for _ in range(1_000):
            bench.clock.advance(microseconds=100)  # a tenth of a second in all
            admitted += bool(limiter.try_acquire("k"))
        assert admitted == min(1_000, rate // 10)


def test_a_denial_does_not_count_against_the_next_request(bench: Bench) -> None:
    for limit in (TokenBucket(10, per=60), FixedWindow(10, 60), SlidingWindow(10, 60), SlidingLog(10, 60)):
        limiter = bench.limiter(limit)
        assert limiter.try_acquire("k", 6)
        assert not limiter.try_acquire("k", 6)
        assert limiter.try_acquire("k", 4)


def test_negative_costs_give_nothing(bench: Bench) -> None:
    for limit in (
        TokenBucket(10, per=60),
        FixedWindow(10, 60),
        SlidingWindow(10, 60),
        SlidingLog(10, 60),
        Concurrency(10),
    ):
        limiter = bench.limiter(limit)
        limiter.try_acquire("k", 10)
        with pytest.raises(InvalidCost):
            limiter.try_acquire("k", -5)
        assert limiter.peek("k", 0).remaining == 0


# --- who shares what ---


def test_keys_and_names_that_look_alike_when_joined_do_not_share(bench: Bench) -> None:
    pairs = [
        ("a/b", "c"),
        ("a", "b/c"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a}:b", "c"),
        ("a", "b}:c"),
        ("a%3Ab", "c"),
        ("a", "b%3Ac"),
    ]
    for key, name in pairs:
        assert bench.limiter("1/day", name).try_acquire(key)


def test_a_denied_group_spends_nothing_anywhere(bench: Bench) -> None:
    limiter = bench.limiter({"tenant": "2/hour", "user": "5/hour", "global": "fixed-window 100/hour"})
    keys = {"tenant": "t", "user": "u", "global": "*"}
    assert limiter.try_acquire(keys, 2)
    for _ in range(50):
        assert not limiter.try_acquire(keys)
    other = limiter.try_acquire(
        {"tenant": "another", "user": "u", "global": "*"}, {"tenant": 1, "user": 3, "global": 98}
    )
    assert other


def test_two_handlers_of_one_name_share_only_if_they_share_the_limiter(bench: Bench) -> None:
    def handlers(limiter: Limiter) -> list[object]:
        def index() -> None: ...

        first = limiter.limit(key="k")(index)

        def index() -> None: ...  # type: ignore[no-redef]

        return [first, limiter.limit(key="k")(index)]

    first, second = handlers(bench.limiter("1/day", "api"))
    assert callable(first)
    assert callable(second)
    first()
    with pytest.raises(LimitExceeded):
        second()
    third = bench.limiter("1/day", "other").limit(key="k")(lambda: None)
    third()


# --- hooks ---


async def test_an_exception_in_a_hook_neither_admits_nor_loses_a_decision(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(decision: object) -> None:
        raise ConnectionError("the hook's own, and no outage")

    caplog.set_level(logging.CRITICAL, "headgate")
    for mode in ("open", "closed", "raise"):
        limiter = Limiter("1/day", store=bench.store, name=mode, on_outage=mode, on_decision=hook)
        assert [bool(limiter.try_acquire("k")) for _ in range(3)] == [True, False, False]
        awaiting = AsyncLimiter("1/day", store=bench.store, name=f"a{mode}", on_outage=mode, on_decision=hook)
        assert [bool(await awaiting.try_acquire("k")) for _ in range(3)] == [True, False, False]


# --- in mid-traffic ---


def test_a_script_flush_in_mid_traffic_is_noticed_by_nobody(server: OwnValkey) -> None:
    with (
        Limiter("200/day", store=server.url, timeout=PATIENT, on_outage="raise") as limiter,
        server.admin() as admin,
    ):
        with Traffic(limiter) as traffic:
            for _ in range(20):
                before = traffic.answered
                admin.script_flush()
                eventually(lambda before=before: traffic.answered > before + 20, "traffic goes on")  # type: ignore[misc]
        assert (traffic.outages, traffic.other_errors) == (0, [])
        assert traffic.allowed == 200


async def test_a_script_flush_is_noticed_by_no_task(server: OwnValkey) -> None:
    async with AsyncLimiter("200/day", store=server.url, timeout=PATIENT, on_outage="raise") as limiter:
        allowed = 0
        with server.admin() as admin:
            for _ in range(20):
                admin.script_flush()
                allowed += sum(map(bool, await asyncio.gather(*(limiter.try_acquire("k") for _ in range(30)))))
        assert allowed == 200


def test_connections_killed_in_mid_traffic_cost_nothing_but_their_own_answers(server: OwnValkey) -> None:
    with (
        Limiter("fixed-window 1000000/day", store=server.url, timeout=PATIENT, on_outage="raise") as limiter,
        server.admin() as admin,
    ):
        with Traffic(limiter) as traffic:
            for _ in range(20):
                before = traffic.answered
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                eventually(lambda before=before: traffic.answered > before + 20, "traffic goes on")  # type: ignore[misc]
        assert traffic.other_errors == []
        spent = 1_000_000 - limiter.peek("k", 0).remaining
        # What was killed under way may have been counted, and is never sent again.
        assert traffic.allowed <= spent
        assert limiter.try_acquire("other").source == "store"


def test_a_server_that_is_restarted_is_found_again_by_pooled_connections(server: OwnValkey) -> None:
    with Limiter("5/day", store=server.url, timeout=PATIENT, on_outage="raise") as limiter:
        for _ in range(3):
            assert limiter.try_acquire("k").remaining == 4  # nothing was saved, scripts included
            server.stop()
            server.start()


async def test_a_server_that_is_restarted_is_found_again_by_tasks(server: OwnValkey) -> None:
    async with AsyncLimiter("5/day", store=server.url, timeout=PATIENT, on_outage="raise") as limiter:
        for _ in range(3):
            assert (await limiter.try_acquire("k")).remaining == 4
            server.stop()
            server.start()
            await asyncio.sleep(0.05)  # the news has to reach the event loop


def test_a_limit_raised_and_lowered_in_mid_traffic_keeps_what_is_owed(bench: Bench) -> None:
    low, high = bench.limiter("60/minute; burst=10", "api"), bench.limiter("6000/minute; burst=1000", "api")
    assert low.try_acquire("k", 10)  # ten seconds of debt
    assert not low.try_acquire("k")
    assert high.peek("k", 0).remaining == 0  # ten seconds, which is all that a burst of 1000 at 100/s holds
    bench.clock.advance(seconds=5)
    assert high.try_acquire("k", 500)
    denied = low.try_acquire("k")
    assert denied.retry_after == 1
    bench.clock.advance(seconds=10)
    assert low.try_acquire("k", 10)


def test_limits_that_change_all_the_time_never_admit_more_than_the_highest(server: OwnValkey) -> None:
    store = RedisStore(server.url, timeout=PATIENT)
    limits = ["100/day", "200/day", "300/day", "7/day", "299/day; burst=150"]
    allowed: list[bool] = []
    start = threading.Barrier(len(limits))

    def work(limit: str) -> None:
        limiter = Limiter(limit, store=store, name="api", on_outage="raise")
        start.wait()
        allowed.extend([bool(limiter.try_acquire("k")) for _ in range(300)])

    threads = [threading.Thread(target=work, args=(limit,)) for limit in limits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert len(allowed) == 5 * 300
    assert 7 <= sum(allowed) <= 300

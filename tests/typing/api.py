"""The public API as type checkers see it. It is checked by mypy and pyrefly, and never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, assert_type

import redis
import redis.asyncio

from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    Clock,
    Concurrency,
    CostExceedsCapacity,
    Decision,
    FixedWindow,
    Hold,
    Limit,
    Limiter,
    LimitExceeded,
    LimitSyntaxError,
    ManualClock,
    MemoryStore,
    Penalty,
    SlidingLog,
    SlidingWindow,
    Store,
    StoreOutage,
    TokenBucket,
    parse_limit,
)
from headgate.stores.redis import RedisStore


def limits() -> list[Limit]:
    assert_type(parse_limit("5/minute"), Limit)
    assert_type(parse_limit(TokenBucket(5)), Limit)
    assert_type(TokenBucket(5, per=60, burst=9), TokenBucket)
    assert_type(TokenBucket(5).burst, int)
    assert_type(FixedWindow(5, per="day", tz="Europe/Berlin").tz, str | None)
    assert_type(Concurrency(5, ttl=timedelta(seconds=5)).ttl_us, int)
    assert_type(SlidingWindow(5).label, str)
    assert_type(SlidingLog(5, per=Decimal("0.5")).period_us, int)
    assert_type(Penalty(5, per=60, block=timedelta(hours=1)).block_us, int)
    Limiter("5/minute", penalty="3 denials/minute -> 1h")
    AsyncLimiter({"user": "5/minute"}, penalty=Penalty(3, 60, 3600))
    return [TokenBucket(5), FixedWindow(5, 0.5), SlidingWindow(5), SlidingLog(5), Concurrency(5), Penalty(5, 60, 3600)]


def stores(blocking: redis.Redis, awaiting: redis.asyncio.Redis, clock: Clock) -> list[Store]:
    manual: Clock = ManualClock()
    return [
        MemoryStore(),
        MemoryStore(clock, max_entries=5),
        MemoryStore(manual),
        RedisStore("redis://localhost", prefix="app", timeout=0.5, remember_denials=0.5, password="p"),
        RedisStore(client=blocking),
        RedisStore(client=awaiting),
    ]


def making(store: Store) -> None:
    def hear(decision: Decision) -> None: ...

    assert_type(Limiter("5/minute"), Limiter)
    Limiter(TokenBucket(5), store=store, name="api", on_outage="closed", on_decision=hear)
    Limiter(["5/minute", Concurrency(3)], store="redis://localhost", timeout=0.5, prefix="app")
    Limiter({"user": "5/minute", "ip": TokenBucket(9)}, on_outage="raise")
    assert_type(AsyncLimiter("5/minute", store=store), AsyncLimiter)
    assert_type(Limiter("5/minute").limits, dict[str, Limit])
    Limiter(5)  # type: ignore[arg-type]  # pyrefly: ignore
    Limiter("5/minute", on_outage="nonsense")  # type: ignore[arg-type]  # pyrefly: ignore
    Limiter("5/minute", store=5)  # type: ignore[arg-type]  # pyrefly: ignore


class Index:
    """An integer of somebody's own."""

    def __index__(self) -> int:
        return 5


def asking(limiter: Limiter) -> None:
    decision = limiter.try_acquire("user:42")
    assert_type(decision, Decision)
    assert_type(limiter.try_acquire({"user": "42", "ip": "a"}, {"user": 1, "ip": 2}), Decision)
    assert_type(limiter.try_acquire("user:42", cost=5, limit="9/minute"), Decision)
    assert_type(limiter.try_acquire({"user": "42"}, limit={"user": TokenBucket(9)}), Decision)
    assert_type(limiter.try_acquire("user:42", Index()), Decision)
    assert_type(limiter.acquire("user:42", timeout=5), Decision)
    assert_type(limiter.acquire("user:42", timeout=None), Decision)
    assert_type(limiter.try_acquire("user:42", reserve=5), Decision)
    assert_type(limiter.try_acquire({"user": "42"}, reserve={"user": 5}), Decision)
    assert_type(limiter.try_acquire_up_to("user:42", 80), Decision)
    assert_type(limiter.try_acquire_once("user:42", "payment-17", 5, period=60), Decision)
    assert_type(limiter.peek("user:42"), Decision)
    assert_type(limiter.settle(decision, actual=5), Decision)
    assert_type(limiter.settle(decision, actual={"user": 5}), Decision)
    limiter.refund(decision)
    limiter.reset("user:42")
    limiter.close()
    with limiter.hold("job:7", timeout=5) as hold:
        assert_type(hold, Hold)
        assert_type(hold.is_lost, bool)
        assert_type(hold.decision, Decision)
    holding: AbstractContextManager[Hold] = limiter.holding(decision)
    with holding as hold:
        assert_type(hold, Hold)
    with Limiter("5/minute") as opened:
        assert_type(opened, Limiter)
    limiter.try_acquire(42)  # type: ignore[arg-type]  # pyrefly: ignore
    limiter.try_acquire("user:42", "1")  # type: ignore[arg-type]  # pyrefly: ignore
    limiter.try_acquire("user:42", 1.5)  # type: ignore[arg-type]  # pyrefly: ignore


async def awaiting(limiter: AsyncLimiter) -> None:
    decision = await limiter.try_acquire("user:42")
    assert_type(decision, Decision)
    assert_type(await limiter.try_acquire({"user": "42"}, {"user": 1}), Decision)
    assert_type(await limiter.try_acquire("user:42", cost=5, limit="9/minute"), Decision)
    assert_type(await limiter.acquire("user:42", timeout=5), Decision)
    assert_type(await limiter.try_acquire("user:42", reserve=5), Decision)
    assert_type(await limiter.try_acquire_up_to("user:42", 80), Decision)
    assert_type(await limiter.try_acquire_once("user:42", "payment-17", period=3.5), Decision)
    assert_type(await limiter.peek("user:42"), Decision)
    assert_type(await limiter.settle(decision, actual=5), Decision)
    await limiter.refund(decision)
    await limiter.reset("user:42")
    await limiter.aclose()
    async with limiter.hold("job:7", timeout=5) as hold:
        assert_type(hold, Hold)
    holding: AbstractAsyncContextManager[Hold] = limiter.holding(decision)
    async with holding as hold:
        assert_type(hold.is_lost, bool)
    async with AsyncLimiter("5/minute") as opened:
        assert_type(opened, AsyncLimiter)


def deciding(decision: Decision) -> None:
    assert_type(bool(decision), bool)
    assert_type(decision.allowed, bool)
    assert_type(decision.remaining, int)
    assert_type(decision.limit, int)
    assert_type(decision.cost, int)
    assert_type(decision.retry_after, float)
    assert_type(decision.retry_after_us, int)
    assert_type(decision.reset_after, float)
    assert_type(decision.reset_after_us, int)
    assert_type(decision.wait_us, int)
    assert_type(decision.now_us, int)
    assert_type(decision.key, str)
    assert_type(decision.binding, str)
    assert_type(decision.source, Literal["store", "memory_of_denial", "lease", "fail_open", "fail_closed", "local"])
    assert_type(decision.headers(), dict[str, str])
    assert_type(decision.headers("draft-11"), dict[str, str])
    decision.headers("draft-99")  # type: ignore[arg-type]  # pyrefly: ignore


class Mailbox:
    """Methods may be decorated like functions."""

    limiter = Limiter("5/minute")
    awaiting = AsyncLimiter("5/minute")

    @limiter.limit(key=str)
    def send(self, text: str) -> int:
        return len(text)

    @awaiting.limit(key="all", timeout=None)
    async def fetch(self, number: int = 1, *, is_urgent: bool = False) -> list[str]:
        return [str(number), str(is_urgent)]


def key_of(number: int) -> str:
    return f"user:{number}"


def cost_of(number: int) -> int:
    return number


async def key_later(number: int) -> str:
    return f"user:{number}"


async def decorating(limiter: Limiter, other: AsyncLimiter) -> None:
    @limiter.limit(key="k")
    def plain(number: int, *, text: str = "") -> str:
        return text * number

    @limiter.limit(key=key_of, cost=cost_of, timeout=5)
    async def later(number: int) -> bytes:
        return bytes(number)

    @other.limit("k", cost=Index())
    def by_place() -> None: ...

    @other.limit(key=key_later)
    async def much_later(number: int) -> bytes:
        return bytes(number)

    limiter.limit(cost_of)  # type: ignore[arg-type]  # pyrefly: ignore
    assert_type(by_place(), None)
    assert_type(await much_later(5), bytes)

    @other.limit(key={"user": "42"}, cost={"user": 2}, limit="5/minute")
    def blocking() -> None: ...

    assert_type(plain(5, text="a"), str)
    assert_type(await later(5), bytes)
    assert_type(blocking(), None)
    function: Callable[[int], Coroutine[Any, Any, bytes]] = later
    assert_type(await function(5), bytes)
    plain("5")  # type: ignore[arg-type]  # pyrefly: ignore
    plain(5, tex="a")  # type: ignore[call-arg]  # pyrefly: ignore
    await later()  # type: ignore[call-arg]  # pyrefly: ignore
    assert_type(Mailbox().send("a"), int)
    Mailbox().send(5)  # type: ignore[arg-type]  # pyrefly: ignore


async def decorating_methods(mailbox: Mailbox) -> None:
    assert_type(await mailbox.fetch(2, is_urgent=True), list[str])


def failing(limiter: Limiter) -> None:
    try:
        limiter.acquire("k", timeout=0)
    except AcquireTimeout as late:
        assert_type(late.decision, Decision)
        assert_type(late.timeout, float)
    except CostExceedsCapacity as never:
        assert_type((never.cost, never.capacity, never.name), tuple[int, int, str])
    except LimitExceeded as exceeded:
        assert_type(exceeded.decision, Decision)
    except StoreOutage as outage:
        assert_type((outage.store, outage.problem), tuple[str, str])
    except LimitSyntaxError as error:
        assert_type((error.text, error.position, error.problem), tuple[str, int, str])

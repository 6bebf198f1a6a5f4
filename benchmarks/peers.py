"""Headgate and its peers behind one shape: a call that takes a key, and an answer that says admitted or denied.

Each library is used as its own documentation says, and nothing is tuned: every client has the pool, the timeouts and
the parser that it chooses by itself. Where the documentation shows one object for each key, as pyrate-limiter,
steindamm and redis-rate-limiters do, the objects are made once and kept by key.

    entry = find("limits", "fixed window")
    contender = entry.open_sync("redis://127.0.0.1:6379/0", Quota(100, 60))
    contender.is_admitted(contender.call("user:42"))
    contender.close()

Makers of async contenders are called inside the running event loop; `await close(contender)` closes either kind."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import asyncio_redis_rate_limit as wemake
import limits
import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
import pyrate_limiter as pyrate
import redis
import redis.asyncio
import throttled
import throttled.asyncio
from distributed_rate_limiter import RateLimiter

from benchmarks import rate_sync
from benchmarks.shape import OURS, Contender, Entry, Maker, Quota, close
from benchmarks.sleepers import SLEEPERS
from headgate import AsyncLimiter, FixedWindow, Limit, Limiter, SlidingLog, SlidingWindow, TokenBucket

__all__ = ["ENTRIES", "LEFT_OUT", "OURS", "Contender", "Entry", "Maker", "Quota", "close", "find", "ours"]

# headgate


def limit_of(algorithm: str, quota: Quota) -> Limit:
    """Our limit for a quota."""
    if algorithm == "token bucket":
        return TokenBucket(quota.tokens, quota.per_s, burst=quota.capacity)
    window = {"fixed window": FixedWindow, "sliding window": SlidingWindow, "sliding log": SlidingLog}[algorithm]
    limit: Limit = window(quota.tokens, quota.per_s)
    return limit


def ours(algorithm: str, mark: str = "", **options: Any) -> Entry:
    """Our entry, with options of a limiter; `mark` tells it from the plain one in a table."""
    name = f"{algorithm}, {mark}" if mark else algorithm

    def open_sync(url: str, quota: Quota) -> Contender:
        limiter = Limiter(limit_of(algorithm, quota), store=url, **options)
        return Contender(OURS, name, limiter.try_acquire, ours_admits, close=limiter.close)

    def open_async(url: str, quota: Quota) -> Contender:
        limiter = AsyncLimiter(limit_of(algorithm, quota), store=url, **options)
        return Contender(OURS, name, limiter.try_acquire, ours_admits, close=limiter.aclose)

    def open_memory(quota: Quota) -> Contender:
        limiter = Limiter(limit_of(algorithm, quota), **options)
        return Contender(OURS, name, limiter.try_acquire, ours_admits, close=limiter.close)

    return Entry(OURS, name, open_sync, open_async, open_memory)


def ours_admits(decision: Any) -> bool:
    """Was it admitted, by the store's word or one that is as good?"""
    if decision.source in ("fail_open", "fail_closed"):  # an outage's answer is quick, and says nothing
        raise RuntimeError("headgate did not reach the store")
    return bool(decision)


# limits


def _limits(algorithm: str, strategy: str) -> Entry:
    def item(quota: Quota) -> Any:
        return limits.RateLimitItemPerSecond(quota.tokens, quota.per_s)

    def opened(storage: Any, strategies: Any, quota: Quota) -> Contender:
        return Contender(
            "limits", algorithm, functools.partial(getattr(strategies, strategy)(storage).hit, item(quota))
        )

    def open_async(url: str, quota: Quota) -> Contender:
        storage = limits.aio.storage.RedisStorage(f"async+{url}", implementation="redispy")
        return opened(storage, limits.aio.strategies, quota)

    return Entry(
        "limits",
        algorithm,
        lambda url, quota: opened(limits.storage.RedisStorage(url), limits.strategies, quota),
        open_async,
        lambda quota: opened(limits.storage.MemoryStorage(), limits.strategies, quota),
    )


# throttled-py


def _throttled(algorithm: str, using: Any) -> Entry:
    def opened(module: Any, store: Any, quota: Quota) -> Contender:
        allowance = throttled.per_duration(timedelta(seconds=quota.per_s), limit=quota.tokens, burst=quota.capacity)
        throttle = module.Throttled(using=using.value, quota=allowance, store=store)
        return Contender("throttled-py", algorithm, throttle.limit, lambda result: not result.limited)

    return Entry(
        "throttled-py",
        algorithm,
        lambda url, quota: opened(throttled, throttled.RedisStore(server=url), quota),
        lambda url, quota: opened(throttled.asyncio, throttled.asyncio.RedisStore(server=url), quota),
        lambda quota: opened(throttled, throttled.MemoryStore(), quota),
        remark="its memory store forgets all but 1,024 keys" if algorithm == "token bucket" else "",
    )


# pyrate-limiter


class _BucketByName(pyrate.BucketFactory):  # type: ignore[misc,unused-ignore]
    """A bucket for each key, made when it is first asked for, as its documentation on routing shows."""

    def __init__(self, make: Callable[[str], Any], *, leaks: bool) -> None:
        self._make = make
        self._leaks = leaks
        self._clock = pyrate.WallClock()
        self._buckets: dict[str, Any] = {}

    def wrap_item(self, name: str, weight: int = 1) -> Any:
        return pyrate.RateItem(name, self._clock.now(), weight=weight)

    def get(self, item: Any) -> Any:
        bucket = self._buckets.get(item.name)
        if bucket is None:
            bucket = self._make(item.name)
            if inspect.isawaitable(bucket):
                return self._kept(item.name, bucket)
            self._keep(item.name, bucket)
        return bucket

    async def _kept(self, name: str, making: Any) -> Any:
        bucket = await making
        self._keep(name, bucket)
        return bucket

    def _keep(self, name: str, bucket: Any) -> None:
        self._buckets[name] = bucket
        if self._leaks:
            self.schedule_leak(bucket)


def _pyrate(algorithm: str, method: Any, *, logs: bool) -> Entry:
    def rates(quota: Quota) -> list[Any]:
        return [pyrate.Rate(quota.tokens, pyrate.Duration.SECOND * quota.per_s, **_burst(quota, logs=logs))]

    def on_redis(client: Any, quota: Quota) -> Callable[[str], Any]:
        if logs:
            return lambda name: pyrate.RedisBucket.init(rates(quota), client, name, algorithm=method())
        return lambda name: pyrate.StateBucket(rates(quota), method(), store=pyrate.RedisStateStore(client, name))

    def in_memory(quota: Quota) -> Callable[[str], Any]:
        made = pyrate.InMemoryBucket if logs else pyrate.StateBucket
        return lambda _: made(rates(quota), algorithm=method())

    def open_sync(url: str, quota: Quota, **asked: Any) -> Contender:
        client: Any = redis.Redis.from_url(url)
        limiter = pyrate.Limiter(_BucketByName(on_redis(client, quota), leaks=logs))
        call = functools.partial(limiter.try_acquire, **(asked or {"blocking": False}))
        return Contender("pyrate-limiter", algorithm, call, close=limiter.close)

    def open_threads(url: str, quota: Quota) -> Contender:
        return open_sync(url, quota, timeout=_PATIENCE_S)

    def open_async(url: str, quota: Quota) -> Contender:
        client: Any = redis.asyncio.Redis.from_url(url)
        limiter = pyrate.Limiter(_BucketByName(on_redis(client, quota), leaks=logs))
        call = functools.partial(limiter.try_acquire_async, blocking=False)
        return Contender("pyrate-limiter", algorithm, call, close=limiter.close)

    def open_memory(quota: Quota) -> Contender:
        limiter = pyrate.Limiter(_BucketByName(in_memory(quota), leaks=logs))
        call = functools.partial(limiter.try_acquire, blocking=False)
        return Contender("pyrate-limiter", algorithm, call, close=limiter.close)

    remark = "its blocking=False denies while another thread is inside, so threads use a timeout"
    return Entry("pyrate-limiter", algorithm, open_sync, open_async, open_memory, open_threads, remark)


_PATIENCE_S: Final = 5


def _burst(quota: Quota, *, logs: bool) -> dict[str, int]:
    return {} if logs or quota.burst is None else {"burst": quota.burst}


# distributed-rate-limiter


def _distributed() -> Entry:
    def opened(url: str, quota: Quota, *, async_mode: bool) -> Contender:
        made = RateLimiter(
            rate=quota.tokens, per=quota.per_s, burst=quota.capacity, redis_url=url, async_mode=async_mode
        )
        call = made.allow_async if async_mode else made.allow
        return Contender("distributed-rate-limiter", "token bucket", call, _allow_admits)

    return Entry(
        "distributed-rate-limiter",
        "token bucket",
        functools.partial(opened, async_mode=False),
        functools.partial(opened, async_mode=True),
        remark="has 100 connections, and fails open when there are more calls at a time",
    )


def _allow_admits(answer: Any) -> bool:
    allowed, info = answer
    if info is None:  # it fails open, and would be fast at that
        raise RuntimeError("failed open: admitted without asking the store")
    return bool(allowed)


# asyncio-redis-rate-limit


def _asyncio_redis_rate_limit() -> Entry:
    def open_async(url: str, quota: Quota) -> Contender:
        client = redis.asyncio.Redis.from_url(url)
        spec = wemake.RateSpec(requests=quota.tokens, seconds=quota.per_s)

        async def call(key: str) -> bool:
            try:
                async with wemake.RateLimiter(key, spec, client, cache_prefix="bench"):
                    return True
            except wemake.RateLimitError:
                return False

        return Contender("asyncio-redis-rate-limit", "fixed window", call, close=client.aclose)

    remark = "INCR and EXPIRE NX in a pipeline: a window begins with the first call after the last one"
    return Entry("asyncio-redis-rate-limit", "fixed window", open_async=open_async, remark=remark)


OUR_ENTRIES: Final = tuple(ours(name) for name in ("token bucket", "fixed window", "sliding window", "sliding log"))

PEER_ENTRIES: Final = (
    _limits("fixed window", "FixedWindowRateLimiter"),
    _limits("sliding window", "SlidingWindowCounterRateLimiter"),
    _limits("sliding log", "MovingWindowRateLimiter"),
    _throttled("token bucket", throttled.RateLimiterType.TOKEN_BUCKET),
    _throttled("leaking bucket", throttled.RateLimiterType.LEAKING_BUCKET),
    _throttled("GCRA", throttled.RateLimiterType.GCRA),
    _throttled("fixed window", throttled.RateLimiterType.FIXED_WINDOW),
    _throttled("sliding window", throttled.RateLimiterType.SLIDING_WINDOW),
    _pyrate("GCRA", pyrate.GCRA, logs=False),
    _pyrate("fixed window", pyrate.FixedWindow, logs=True),
    _pyrate("sliding log", pyrate.SlidingWindowLog, logs=True),
    _distributed(),
    *SLEEPERS,
    _asyncio_redis_rate_limit(),
    *rate_sync.ENTRIES,
)

ENTRIES: Final = OUR_ENTRIES + PEER_ENTRIES

LEFT_OUT: Final = {
    **({"rate-sync": rate_sync.LACKS} if rate_sync.LACKS else {}),
    "pyredis-rate-limiter": "requires exactly redis-py 5.0.1, and headgate 5.3 or later",
    "upstash-ratelimit": "speaks HTTP to a hosted service, not to a Redis server",
    "flask-limiter, slowapi": "ask `limits`, which is here",
    "fastapi-limiter": "asks `pyrate-limiter`, which is here",
    "django-ratelimit": "counts in Django's cache, within a project",
    "aiolimiter": "one key, in one process, for one event loop",
}
"""Libraries that do not stand beside the others, and why."""


def find(library: str, algorithm: str) -> Entry:
    """The entry of a library and an algorithm."""
    for entry in ENTRIES:
        if (entry.library, entry.algorithm) == (library, algorithm):
            return entry
    raise LookupError(f"{library} has no {algorithm!r} here")


def databases(base: str) -> Iterator[str]:
    """A database for each contender, since two strategies of one library may share a key."""
    return (f"{base}/{number}" for number in range(1, 1_000))

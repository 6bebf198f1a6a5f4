"""The peers that are context managers and sleep until there is a token, asked not to sleep.

Their users make one object for each key, so the objects are kept by key. What would sleep for longer than a moment is
refused with an error, which is taken as a denial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import limiters
import redis
import redis.asyncio
import steindamm

from benchmarks.shape import Contender, Entry, Quota

try:
    import self_limiters
except ImportError:  # built for a few platforms only
    self_limiters = None

AT_ONCE_S: Final = 0.001
"""The most that a caller is ready to sleep. 0 would mean: as long as it takes."""


def _entering(make: Callable[[str], Any], too_long: type[Exception]) -> Callable[[str], bool]:
    buckets: dict[str, Any] = {}

    def call(key: str) -> bool:
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = make(key)
        try:
            with bucket:
                return True
        except too_long:
            return False

    return call


def _entering_async(make: Callable[[str], Any], too_long: type[Exception]) -> Callable[[str], Any]:
    buckets: dict[str, Any] = {}

    async def call(key: str) -> bool:
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = make(key)
        try:
            async with bucket:
                return True
        except too_long:
            return False

    return call


def _refilled(quota: Quota) -> dict[str, float]:
    return {
        "capacity": quota.capacity,
        "refill_frequency": quota.per_s / quota.tokens,
        "refill_amount": 1,
        "max_sleep": AT_ONCE_S,
    }


def _steindamm() -> Entry:
    def expiry(quota: Quota) -> int:
        """Its keys live for a fixed time, which has to be as long as a bucket takes to fill."""
        return 1 + quota.capacity * quota.per_s // quota.tokens

    def opened(made: Any, entering: Any, quota: Quota, **options: Any) -> Contender:
        def make(key: str) -> Any:
            return made.create(name=key, expiry=expiry(quota), **_refilled(quota), **options)

        return Contender("steindamm", "token bucket", entering(make, steindamm.MaxSleepExceededError))

    def open_sync(url: str, quota: Quota) -> Contender:
        return opened(steindamm.SyncTokenBucket, _entering, quota, connection=redis.Redis.from_url(url))

    def open_async(url: str, quota: Quota) -> Contender:
        client = redis.asyncio.Redis.from_url(url)
        return opened(steindamm.AsyncTokenBucket, _entering_async, quota, connection=client)

    def open_memory(quota: Quota) -> Contender:
        return opened(steindamm.SyncTokenBucket, _entering, quota)

    return Entry("steindamm", "token bucket", open_sync, open_async, open_memory)


def _redis_rate_limiters() -> Entry:
    def opened(made: Any, entering: Any, client: Any, quota: Quota) -> Contender:
        def make(key: str) -> Any:
            return made(name=key, connection=client, **_refilled(quota))

        too_long = limiters.MaxSleepExceededError
        return Contender("redis-rate-limiters", "token bucket", entering(make, too_long))

    def open_sync(url: str, quota: Quota) -> Contender:
        return opened(limiters.SyncTokenBucket, _entering, redis.Redis.from_url(url), quota)

    def open_async(url: str, quota: Quota) -> Contender:
        client = redis.asyncio.Redis.from_url(url)
        return opened(limiters.AsyncTokenBucket, _entering_async, client, quota)

    return Entry(
        "redis-rate-limiters",
        "token bucket",
        open_sync,
        open_async,
        remark="a denial spends as well; after a refill, callers sleep for 20 ms",
    )


def _self_limiters() -> Entry:
    def open_async(url: str, quota: Quota) -> Contender:
        def make(key: str) -> Any:
            return self_limiters.TokenBucket(name=key, redis_url=url, **_refilled(quota))

        too_long = self_limiters.MaxSleepExceededError
        return Contender("self-limiters", "token bucket", _entering_async(make, too_long))

    remark = "starts empty, so every caller sleeps for a refill; a denial spends as well; a pool for each key"
    return Entry("self-limiters", "token bucket", open_async=open_async, remark=remark, admits_at_once=False)


SLEEPERS: Final = (
    _steindamm(),
    _redis_rate_limiters(),
    *([_self_limiters()] if self_limiters else []),
)

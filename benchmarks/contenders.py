"""Headgate and its peers, each used as its own documentation says, behind one shape: a call that takes a key.

Nothing is tuned: every client has the pool, the timeouts and the parser that it chooses by itself. Where a library
lets the user choose an algorithm, each stands in a row of its own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import limits
import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
import redis
import redis.asyncio
import throttled
import throttled.asyncio
from distributed_rate_limiter import RateLimiter

from headgate import AsyncLimiter, FixedWindow, Limit, Limiter, SlidingLog, SlidingWindow, TokenBucket

OURS: Final = "headgate"
FLOOR: Final = "no limiter"
"""What the client library costs alone: the least that a peer built on it can take."""

PER: Final = 3_600
"""Every limit is so many per hour."""


_SAME_AS: Final = {"GCRA": "token bucket", "moving window": "sliding log"}


@dataclass(frozen=True)
class Contender:
    """One row. `call` takes a key, and returns (or awaits to) an answer that `is_admitted` understands."""

    library: str
    how: str
    call: Callable[[str], Any]
    is_admitted: Callable[[Any], bool] = bool

    @property
    def kind(self) -> str:
        """What may be compared with each other. GCRA is a token bucket by another name."""
        return _SAME_AS.get(self.how, self.how)


def _limits(rate: int) -> dict[str, Limit]:
    return {
        "token bucket": TokenBucket(rate, PER),
        "fixed window": FixedWindow(rate, PER),
        "sliding window": SlidingWindow(rate, PER),
        "sliding log": SlidingLog(rate, PER),
    }


_STRATEGIES: Final = {
    "fixed window": "FixedWindowRateLimiter",
    "sliding window": "SlidingWindowCounterRateLimiter",
    "moving window": "MovingWindowRateLimiter",
}
_THROTTLED: Final = {
    "token bucket": throttled.RateLimiterType.TOKEN_BUCKET.value,
    "GCRA": throttled.RateLimiterType.GCRA.value,
    "fixed window": throttled.RateLimiterType.FIXED_WINDOW.value,
}


def on_server(base: str, rate: int) -> list[Contender]:
    """Blocking callers. Each gets a database of its own, since two strategies of one library may share a key."""
    urls = (f"{base}/{number}" for number in itertools.count())
    made = [Contender(OURS, how, Limiter(limit, store=next(urls)).try_acquire) for how, limit in _limits(rate).items()]
    item = limits.parse(f"{rate}/hour")
    for how, name in _STRATEGIES.items():
        strategy = getattr(limits.strategies, name)(limits.storage.RedisStorage(next(urls)))
        made.append(Contender("limits", how, functools.partial(strategy.hit, item)))
    for how, using in _THROTTLED.items():
        throttle = throttled.Throttled(
            using=using, quota=f"{rate}/h burst {rate}", store=throttled.RedisStore(server=next(urls))
        )
        made.append(Contender("throttled-py", how, throttle.limit, _is_admitted))
    made.append(
        Contender(
            "distributed-rate-limiter",
            "token bucket",
            RateLimiter(rate=rate, per=PER, redis_url=next(urls)).allow,
            _allow_admits,
        )
    )
    made.append(Contender(FLOOR, "redis-py INCR", redis.Redis.from_url(next(urls)).incr, _always))
    return made


def on_server_told(base: str, rate: int) -> list[Contender]:
    """Blocking callers that want to know, on a denial, when to come back: what a web app needs for `Retry-After`."""
    told: dict[str, Callable[[Any], object]] = {
        OURS: lambda decision: decision.retry_after,
        "throttled-py": lambda result: result.state.retry_after,
        "distributed-rate-limiter": lambda result: result[1].reset,
    }

    def reading(call: Callable[[str], Any], read: Callable[[Any], object]) -> Callable[[str], Any]:
        def call_and_read(key: str) -> Any:
            answer = call(key)
            read(answer)
            return answer

        return call_and_read

    def asking_again(hit: Any) -> Callable[[str], bool]:
        strategy, item = hit.func.__self__, hit.args[0]

        def hit_or_ask(key: str) -> bool:
            if strategy.hit(item, key):
                return True
            _ = strategy.get_window_stats(item, key).reset_time
            return False

        return hit_or_ask

    made = []
    for contender in on_server(base, rate):
        if contender.library in told:
            made.append(replace(contender, call=reading(contender.call, told[contender.library])))
        elif contender.library == "limits":
            made.append(replace(contender, call=asking_again(contender.call)))
    return made


def on_server_async(base: str, rate: int) -> list[Contender]:
    """Async callers."""
    urls = (f"{base}/{number}" for number in itertools.count())
    made = [
        Contender(OURS, how, AsyncLimiter(limit, store=next(urls)).try_acquire) for how, limit in _limits(rate).items()
    ]
    item = limits.parse(f"{rate}/hour")
    for how, name in _STRATEGIES.items():
        storage = limits.aio.storage.RedisStorage(f"async+{next(urls)}", implementation="redispy")
        strategy = getattr(limits.aio.strategies, name)(storage)
        made.append(Contender("limits", how, functools.partial(strategy.hit, item)))
    for how, using in _THROTTLED.items():
        throttle = throttled.asyncio.Throttled(
            using=using, quota=f"{rate}/h burst {rate}", store=throttled.asyncio.RedisStore(server=next(urls))
        )
        made.append(Contender("throttled-py", how, throttle.limit, _is_admitted))
    made.append(
        Contender(
            "distributed-rate-limiter",
            "token bucket",
            RateLimiter(rate=rate, per=PER, redis_url=next(urls), async_mode=True).allow_async,
            _allow_admits,
        )
    )
    made.append(Contender(FLOOR, "redis-py INCR", redis.asyncio.Redis.from_url(next(urls)).incr, _always))
    return made


def in_memory(rate: int) -> list[Contender]:
    """Blocking callers in one process. distributed-rate-limiter has no memory store."""
    made = [Contender(OURS, how, Limiter(limit).try_acquire) for how, limit in _limits(rate).items()]
    item = limits.parse(f"{rate}/hour")
    for how, name in _STRATEGIES.items():
        strategy = getattr(limits.strategies, name)(limits.storage.MemoryStorage())
        made.append(Contender("limits", how, functools.partial(strategy.hit, item)))
    for how, using in _THROTTLED.items():
        throttle = throttled.Throttled(using=using, quota=f"{rate}/h burst {rate}", store=throttled.MemoryStore())
        made.append(Contender("throttled-py", how, throttle.limit, _is_admitted))
    return made


def _is_admitted(result: Any) -> bool:
    return not result.limited


def _allow_admits(result: Any) -> bool:
    allowed, info = result
    if info is None:  # it fails open, and would be fast at that
        raise RuntimeError("distributed-rate-limiter did not reach the store")
    return bool(allowed)


def _always(_: Any) -> bool:
    return True

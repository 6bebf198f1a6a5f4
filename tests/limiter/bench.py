"""One way to run a limiter, so that a test written once holds for blocking and asyncio limiters over every store.

Tests are coroutines; `told(...)` gives the answer of either kind of limiter, `holding(...)` enters the block of either.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from headgate import AsyncLimiter, Decision, Hold, Limiter, ManualClock, MemoryStore, Store, StoreTimeout
from headgate.hits import Group
from headgate.limiter.naming import Limits
from headgate.limiter.policy import CallLimit, Costs, Keys

T = TypeVar("T")
AnyLimiter = Limiter | AsyncLimiter


class Bench:
    """A store with a clock that stands still, and the kind of limiter to put on it."""

    def __init__(self, kind: type[Limiter] | type[AsyncLimiter], store: Store, clock: ManualClock) -> None:
        self.kind = kind
        self.store = store
        self.clock = clock

    def limiter(self, limit: Limits, **options: Any) -> AnyLimiter:
        """A limiter on this store, which raises if the store fails: a test must not pass because of an outage."""
        return self.kind(limit, store=self.store, **{"on_outage": "raise", **options})


class FailingStore:
    """A store that fails while it is told to, and else is the memory store."""

    timeout = 0.25

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStore(self.clock)
        self.is_down = False
        self.asked = 0

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        self.asked += 1
        if self.is_down:
            raise StoreTimeout("redis://somewhere:1/0", "no answer within 0.25 s")
        return self.memory.decide(groups)

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        return self.decide(groups)

    def close(self) -> None:
        self.memory.close()

    async def aclose(self) -> None:
        self.close()


async def told(answer: T | Awaitable[T]) -> T:
    """The answer of a blocking limiter, or of an asyncio one."""
    return await cast("Awaitable[T]", answer) if inspect.isawaitable(answer) else answer


async def ask(limiter: AnyLimiter, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
    """`try_acquire`."""
    return await told(limiter.try_acquire(key, cost, limit=limit))


async def peek(limiter: AnyLimiter, key: Keys, cost: Costs = 1, *, limit: CallLimit = None) -> Decision:
    """`peek`."""
    return await told(limiter.peek(key, cost, limit=limit))


async def remaining(limiter: AnyLimiter, key: Keys, *, limit: CallLimit = None) -> int:
    """How many tokens are there."""
    return (await peek(limiter, key, 0, limit=limit)).remaining


async def remaining_by_tier(limiter: AnyLimiter, keys: Mapping[str, str]) -> dict[str, int]:
    """How many tokens are there in each tier."""
    decision = await peek(limiter, keys, 0)
    return {
        hit.tier: hit.limit.remaining(facts, decision.now_us)
        for hit, facts in zip(decision.group.hits, decision.facts, strict=True)
    }


@asynccontextmanager
async def holding(limiter: AnyLimiter, key: Keys, cost: Costs = 1, **options: Any) -> AsyncIterator[Hold]:
    """`hold`."""
    if isinstance(limiter, Limiter):
        with limiter.hold(key, cost, **options) as hold:
            yield hold
    else:
        async with limiter.hold(key, cost, **options) as hold:
            yield hold

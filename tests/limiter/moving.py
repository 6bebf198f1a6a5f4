"""What a process of its own imports, as a worker does."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from headgate import AsyncLimiter, Decision, Limiter

URL, PREFIX = os.environ.get("MOVING_URL", "redis://localhost:1"), os.environ.get("MOVING_PREFIX", "moving")
OPTIONS: dict[str, Any] = {"store": URL, "prefix": PREFIX, "timeout": 20, "on_outage": "raise"}

limiter = Limiter("100/day", name="moving", **OPTIONS)
awaiting = AsyncLimiter("100/day", name="moving", **OPTIONS)


@limiter.limit(key="decorated")
def blocking_work(number: int) -> int:
    """Blocks."""
    return number + 1


@awaiting.limit(key="decorated")
def work_in_a_thread(number: int) -> int:
    """Blocks, though its limiter does not."""
    return number + 2


def hear(decision: Decision) -> None:
    """A hook."""


def remaining(moved: Limiter, key: str) -> tuple[int, int]:
    """Spend one with a limiter from another process, and tell what remains, and in which process."""
    return moved.try_acquire(key).remaining, os.getpid()


async def remaining_awaited(moved: AsyncLimiter, key: str) -> int:
    """As `remaining`."""
    async with moved:
        return (await moved.try_acquire(key)).remaining


def call_awaited(moved: AsyncLimiter, key: str) -> int:
    """As `remaining`."""
    return asyncio.run(remaining_awaited(moved, key))


def put(moved: Limiter, key: str, queue: Any) -> None:
    """As `remaining`, for a process with a queue."""
    queue.put(remaining(moved, key))

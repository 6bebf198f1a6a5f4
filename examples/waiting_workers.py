"""Workers share a vendor's quota: each waits for its turn, and turns come in the order of asking.

The vendor allows 20 calls a second, and no bursts. The workers here are tasks; on Redis, they may be processes on any
number of machines, and still no call leaves too early. Nobody polls: each `acquire` is one round trip and one sleep.
"""

from __future__ import annotations

import asyncio
import os
import time

from headgate import AcquireTimeout, AsyncLimiter

STORE = os.environ.get("REDIS_URL", "memory://")
WORKERS, CALLS_EACH = 4, 8


async def work(name: str, limiter: AsyncLimiter, calls: list[tuple[float, str]]) -> None:
    for _ in range(CALLS_EACH):
        await limiter.acquire("vendor", timeout=10)
        calls.append((time.monotonic(), name))  # the call to the vendor goes here


async def main() -> None:
    calls: list[tuple[float, str]] = []
    async with AsyncLimiter("20/second; burst=1", store=STORE, name="vendor") as limiter:
        await limiter.reset("vendor")
        async with asyncio.TaskGroup() as workers:
            for number in range(WORKERS):
                workers.create_task(work(f"worker {number}", limiter, calls))

            await asyncio.sleep(0.1)
            try:  # somebody with no time: the answer comes at once, not after the timeout
                await limiter.acquire("vendor", timeout=0.001)
            except AcquireTimeout as timeout:
                print(f"an impatient caller: {timeout}\n")

    took = calls[-1][0] - calls[0][0]
    print(f"{len(calls)} calls in {took:.2f} s; the quota needs {(len(calls) - 1) / 20:.2f} s")
    print("the first turns:", ", ".join(name for _, name in calls[: 2 * WORKERS]))
    assert took > (len(calls) - 1) / 20 - 0.05


if __name__ == "__main__":
    asyncio.run(main())

"""Limits in a file of TOML, and limiters by their names: headgate.toml, beside this file, has the numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate import AcquireTimeout, acquire, configure, get_limiter
from headgate.config import aclose

FILE = Path(__file__).with_name("headgate.toml")


async def main() -> None:
    configure(FILE)  # watch=True: a change of the file takes effect without a restart
    api = get_limiter("api")
    for caller in ("alice", "bob"):
        await api.async_limiter.reset(caller)  # so that this can be run again

    admitted = sum([bool(await api.try_acquire_async("alice")) for _ in range(8)])
    print(f"alice: {admitted} of 8 admitted")
    admitted = sum([bool(await api.try_acquire_async("bob", tier="pro")) for _ in range(8)])
    print(f"bob, who pays: {admitted} of 8 admitted")

    try:
        await acquire("api", "alice")  # waits its turn, at most 250 ms
    except AcquireTimeout as late:
        print(f"alice's next turn is in {late.decision.retry_after:.0f} s, and that is too late")

    async with acquire("reports"), acquire("reports"):  # two at a time
        try:
            async with acquire("reports"):
                raise AssertionError
        except AcquireTimeout:
            print("a third report has to wait")
    with acquire("reports"):  # blocking code counts the same slots
        print(f"running: {get_limiter('reports').metrics().concurrent}")

    metrics = api.metrics()
    print(f"api: {metrics.allowed} allowed, {metrics.denied} denied, {metrics.timeouts} of them after a timeout")
    await aclose()


if __name__ == "__main__":
    asyncio.run(main())

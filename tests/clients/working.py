"""One of several processes that call a vendor: `python -m tests.clients.working KIND VENDOR STORE LIMIT CALLS`. It
prints how many calls were answered with which status, and how many came too late."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from headgate import AcquireTimeout
from tests.clients.calling import calling


async def work(kind: str, vendor: str, store: str, limit: str, calls: int) -> Counter[str]:
    told: Counter[str] = Counter()
    async with calling(kind, limit, store=store, timeout=0, name="fleet") as call:

        async def one() -> None:
            try:
                told[str(await call(vendor))] += 1
            except AcquireTimeout as error:
                told[error.decision.binding] += 1

        await asyncio.gather(*[one() for _ in range(calls)])
    return told


if __name__ == "__main__":
    kind, vendor, store, limit, calls = sys.argv[1:]
    print(json.dumps(asyncio.run(work(kind, vendor, store, limit, int(calls)))))

"""What limits add to a call of a tool in FastMCP, beside its own limiter: `python -m benchmarks.mcp_calls`.

One client in memory, one tool that does nothing; each round calls every server in turn, so that all meet the same
machine. The median and the difference from the server without limits are printed, in microseconds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

from fastmcp import Client, FastMCP
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware

from headgate.fastmcp import RateLimits

ROUNDS = int(os.environ.get("ROUNDS", "1500"))
MANY = "1_000_000/second"


def nothing() -> str:
    return ""


def servers() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        "no limits": [],
        "fastmcp's own": [RateLimitingMiddleware(1e6, get_client_id=lambda _: "one")],
        "headgate, one limit": [RateLimits(MANY)],
        "headgate, of all and of the tool": [RateLimits(MANY, tools={"nothing": MANY})],
        "headgate, a slot": [RateLimits(tools={"nothing": "concurrency 1000"})],
    }
    if "REDIS_URL" in os.environ:
        found["headgate, one limit on the server"] = [RateLimits(MANY, store=os.environ["REDIS_URL"])]
    return found


async def main() -> None:
    async with AsyncExitStack() as stack:
        clients = {}
        for name, middleware in servers().items():
            server = FastMCP("bench", middleware=middleware)
            server.tool(nothing)
            clients[name] = await stack.enter_async_context(Client(server))
        took: dict[str, list[int]] = {name: [] for name in clients}
        for number in range(ROUNDS + 50):
            for name, client in clients.items():
                started = time.perf_counter_ns()
                await client.call_tool("nothing", {})
                if number >= 50:
                    took[name].append(time.perf_counter_ns() - started)
    medians = {name: statistics.median(times) / 1000 for name, times in took.items()}
    for name, median in medians.items():
        print(f"{name:36} {median:8.0f} µs   {median - medians['no limits']:+7.0f} µs")


if __name__ == "__main__":
    asyncio.run(main())

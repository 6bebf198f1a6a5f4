"""Calls of a tool of FastMCP that does nothing, by a client in memory, beside FastMCP's own limiter."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

from fastmcp import Client, FastMCP
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware

from benchmarks.web.apps import LIMIT, MANY
from benchmarks.web.measured import BARE, OURS, Pace, Rounds, shuffled
from headgate.fastmcp import RateLimits


def _nothing() -> str:
    return ""


def rounds(pace: Pace) -> Rounds:
    """The median of the microseconds that calls take in each round."""
    servers: dict[str, list[Any]] = {
        BARE: [],
        OURS: [RateLimits(LIMIT)],
        "theirs": [RateLimitingMiddleware(float(MANY), get_client_id=lambda _: "one")],
    }
    taken: Rounds = {name: [] for name in servers}

    async def measure() -> None:
        async with AsyncExitStack() as stack:
            clients = {}
            for name, middleware in servers.items():
                server = FastMCP(name, middleware=middleware)
                server.tool(_nothing)
                clients[name] = await stack.enter_async_context(Client(server))
            for _ in range(pace.rounds):
                for name in shuffled(clients):
                    client, times = clients[name], []
                    for _ in range(pace.chunk):
                        began = time.perf_counter()
                        await client.call_tool("_nothing", {})
                        times.append(time.perf_counter() - began)
                    taken[name].append(statistics.median(times) * 1e6)

    asyncio.run(measure())
    return taken

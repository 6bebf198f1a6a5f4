"""Tools that agents call, with limits: for each client, of all calls together and of a tool that is dear.

All processes of the server share them, through the store. A refusal is an error that says when to come back.
"""

from __future__ import annotations

import asyncio
import os
import uuid

from fastmcp import Client, FastMCP
from mcp.shared.exceptions import MCPError

from headgate.fastmcp import McpCall, RateLimits
from headgate.rules import Rule

STORE = os.environ.get("REDIS_URL", "memory://")


def texts(call: McpCall) -> int:
    """One token for each text."""
    return len(call.arguments["texts"])


limits = RateLimits(
    "20/minute",
    tools={"search": "3/minute", "embed": Rule("100/minute", name="embed", cost=texts)},
    store=STORE,
    name=f"example-{uuid.uuid4()}",
)
server = FastMCP("library", middleware=[limits])


@server.tool
def search(words: str) -> str:
    """Look something up."""
    return f"a page about {words}"


@server.tool
def embed(texts: list[str]) -> int:
    """Make vectors of texts."""
    return len(texts)


async def main() -> None:
    async with Client(server) as client:
        for tool, arguments in [*[("search", {"words": "locks"})] * 4, *[("embed", {"texts": ["..."] * 60})] * 2]:
            try:
                result = await client.call_tool(tool, arguments)
                print(f"{tool}: {result.data}")
            except MCPError as error:
                print(f"{tool}: {error}; {error.data}")
    await limits.aclose()


if __name__ == "__main__":
    asyncio.run(main())

"""MCP: rate limits for servers of the official SDK, `mcp`, as a middleware of theirs.

limits = RateLimits("100/minute", tools={"search": "10/minute"}, store="redis://localhost:6379/0")
server = MCPServer("search", middleware=[limits])

Of FastMCP's servers, see `headgate.fastmcp`: what both have in common is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("mcp (2.0 or later)", "mcp") from error

from headgate.mcp.calls import METHODS, McpCall, session_id
from headgate.mcp.limits import RATE_LIMITED, McpLimits, RateLimitExceeded


class RateLimits(McpLimits):
    """A middleware of `MCPServer` and of the low-level `Server`: see `McpLimits`."""

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Let a request through, or refuse it.

        :raises RateLimitExceeded: if it is refused: the server makes an error of JSON-RPC of it.
        """
        kind = METHODS.get(ctx.method)
        if kind is None or ctx.request_id is None:
            return await call_next(ctx)
        params = ctx.params or {}
        name, arguments = params.get("uri" if kind == "resources" else "name"), params.get("arguments")
        call = McpCall(
            ctx.method,
            kind,
            name if isinstance(name, str) else "",  # the server will say that it is not understood
            arguments if isinstance(arguments, Mapping) else {},
            ctx,
            ctx.request,
            ctx.session,
        )
        return await self.limited(call, lambda: call_next(ctx))


__all__ = ["RATE_LIMITED", "McpCall", "McpLimits", "RateLimitExceeded", "RateLimits", "session_id"]

"""FastMCP: rate limits as a middleware of a server.

limits = RateLimits("100/minute", tools={"search": "10/minute"}, store="redis://localhost:6379/0")
server = FastMCP("search", middleware=[limits])
"""

from __future__ import annotations

from typing import Any

try:
    from fastmcp.server.dependencies import get_http_request
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("fastmcp (4.0 or later)", "fastmcp") from error

from headgate.mcp import RATE_LIMITED, McpCall, McpLimits, RateLimitExceeded, session_id
from headgate.mcp.calls import Kind


class RateLimits(McpLimits, Middleware):
    """A middleware of a FastMCP server: see `McpLimits`.

    It belongs to the outermost server: of one that is mounted in another, a refusal is a failure of the tool. What a
    tool calls through the server is a call of its client as well.
    """

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Let a call of a tool through, or refuse it.

        :raises RateLimitExceeded: if it is refused: the server makes an error of JSON-RPC of it.
        """
        message = context.message
        return await self._limited("tools", message.name, message.arguments or {}, context, call_next)

    async def on_read_resource(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """As `on_call_tool`, for resources."""
        read = super().on_read_resource  # FastMCP's own looks whether it may be read

        async def reading(context: MiddlewareContext[Any]) -> Any:
            return await read(context, call_next)

        return await self._limited("resources", str(context.message.uri), {}, context, reading)

    async def on_get_prompt(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """As `on_call_tool`, for prompts."""
        message = context.message
        return await self._limited("prompts", message.name, message.arguments or {}, context, call_next)

    async def _limited(
        self, kind: Kind, name: str, arguments: Any, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]
    ) -> Any:
        try:
            http = get_http_request()
        except RuntimeError:  # another transport
            http = None
        about = None if context.fastmcp_context is None else context.fastmcp_context.request_context
        session = None if about is None else about.session
        call = McpCall(context.method or kind, kind, name, arguments, context, http, session)
        return await self.limited(call, lambda: call_next(context))


__all__ = ["RATE_LIMITED", "McpCall", "McpLimits", "RateLimitExceeded", "RateLimits", "session_id"]

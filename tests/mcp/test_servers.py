"""MCP: what holds in one of the libraries alone, and what calls look like to rules."""

from __future__ import annotations

from typing import Any

import mcp
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.exceptions import ToolError
from mcp.server import Server
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool

import headgate.fastmcp
import headgate.mcp
from headgate import ManualClock, MemoryStore
from headgate.mcp import McpCall, session_id


def limits(*rules: Any, **options: Any) -> headgate.fastmcp.RateLimits:
    return headgate.fastmcp.RateLimits(*rules, store=MemoryStore(clock=ManualClock()), **options)


def call_of(name: str, kind: Any = "tools") -> McpCall:
    return McpCall("tools/call", kind, name, {}, None, None, None)


async def test_a_low_level_server_of_the_sdk_has_limits_too() -> None:
    async def answer(context: Any, params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=params.name)])

    async def listed(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="any", input_schema={"type": "object"})])

    server: Server[Any] = Server("tools", on_call_tool=answer, on_list_tools=listed)
    server.middleware.append(headgate.mcp.RateLimits("1/minute", store=MemoryStore(clock=ManualClock())))
    async with mcp.Client(server) as client:
        await client.call_tool("any", {})
        with pytest.raises(MCPError, match="Rate limit exceeded"):
            await client.call_tool("any", {})


async def test_a_call_that_is_not_understood_is_answered_by_the_server() -> None:
    plain = headgate.mcp.RateLimits("1/minute", store=MemoryStore(clock=ManualClock()))
    server: Server[Any] = Server("tools")
    server.middleware.append(plain)
    async with mcp.Client(server) as client:
        with pytest.raises(MCPError, match="Method not found"):
            await client.call_tool("any", {})


async def test_what_a_tool_calls_through_its_server_counts_for_its_client() -> None:
    server = FastMCP("tools", middleware=[limits(tools={"inner": "1/minute"})])

    @server.tool
    def inner() -> str:
        return "done"

    @server.tool
    async def outer(context: Context) -> str:
        await context.fastmcp.call_tool("inner", {})
        return "done"

    async with Client(server) as client:
        await client.call_tool("outer", {})
        with pytest.raises(MCPError, match="Rate limit exceeded"):
            await client.call_tool("inner", {})


async def test_a_refusal_of_a_server_that_is_mounted_is_a_failure_of_its_tool() -> None:
    mounted = FastMCP("inner", middleware=[limits("1/minute")])
    mounted.tool(name="work")(lambda: "done")
    server = FastMCP("outer")
    server.mount(mounted, namespace="inner")
    async with Client(server) as client:
        await client.call_tool("inner_work", {})
        with pytest.raises(ToolError, match="Rate limit exceeded"):
            await client.call_tool("inner_work", {})


def test_the_hashed_name_of_a_tool_is_its_name() -> None:
    assert call_of("__0123456789ab_search").name == "search"
    assert call_of("__0123456789ab_search").path == "/tools/search"
    assert call_of("__init__").name == "__init__"
    assert call_of("__ab_x", "prompts").name == "__ab_x"


def test_all_resources_have_one_share_as_clients_choose_their_uris() -> None:
    assert call_of("data://a", "resources").route == call_of("data://b", "resources").route
    assert call_of("a", "prompts").route != call_of("b", "prompts").route


@pytest.mark.parametrize(
    ("token", "user"),
    [
        ({"client_id": "desk"}, "client desk"),
        ({"client_id": "desk", "subject": "ada"}, "ada"),
        ({"client_id": "phone", "claims": {"sub": "ada"}}, "ada"),
        ({"client_id": "desk", "subject": "ada", "claims": {"iss": "https://a"}}, "ada of https://a"),
    ],
)
def test_a_user_is_the_subject_of_a_token_or_else_its_client(token: dict[str, Any], user: str) -> None:
    verified = AuthenticatedUser(AccessToken(token="t", scopes=[], **token))
    known = auth_context_var.set(verified)
    try:
        assert call_of("search").user == user
    finally:
        auth_context_var.reset(known)
    assert call_of("search").user is None


def test_without_a_session_there_is_no_id_of_one() -> None:
    assert session_id(call_of("search")) is None


def test_a_call_without_http_has_no_address_headers_or_query() -> None:
    call = call_of("search")
    assert (call.peer, list(call.values("x-api-key")), call.query("key")) == (None, [], None)

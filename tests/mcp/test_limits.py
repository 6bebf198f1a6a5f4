"""MCP: calls of tools meet limits by client and tool, in servers of the SDK and in those of FastMCP; what is refused is
an error of JSON-RPC that says when to come back."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp
import pytest
from fastmcp import Client, FastMCP
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

import headgate.fastmcp
import headgate.mcp
from headgate import AsyncLimiter, Decision, InvalidUse, Limiter, ManualClock, MemoryStore, Observer, observer
from headgate.mcp import RATE_LIMITED, McpCall, McpLimits
from headgate.rules import Rule
from headgate.stores.redis import RedisStore
from tests.servers import soon

LIBRARIES = ["fastmcp", "mcp"]
Call = Callable[..., Any]


class Heard(Observer):
    shadows = 0

    def shadow_denied(self, limiter: str, decision: Decision) -> None:
        self.shadows += 1


@asynccontextmanager
async def served(library: str, *rules: Any, **options: Any) -> AsyncIterator[tuple[Any, McpLimits, dict[str, Any]]]:
    """A client of a server with limits; these; and what its tools share: an event at which `slow` ends."""
    options.setdefault("store", MemoryStore(clock=ManualClock()))
    shared: dict[str, Any] = {"ran": [], "started": asyncio.Event(), "go": asyncio.Event()}

    def search(query: str = "") -> str:
        shared["ran"].append("search")
        return query

    def embed(texts: list[str] | None = None) -> int:
        shared["ran"].append("embed")
        return len(texts or [])

    def fail() -> str:
        raise ValueError("it failed")

    async def slow() -> str:
        shared["started"].set()
        await shared["go"].wait()
        return "done"

    def note() -> str:
        return "a note"

    limits: McpLimits
    if library == "fastmcp":
        limits = headgate.fastmcp.RateLimits(*rules, **options)
        server = FastMCP("tools", middleware=[limits])
        for tool in (search, embed, fail, slow):
            server.tool(tool)
        server.resource("data://note")(note)
        server.prompt("greet")(note)
        async with Client(server) as client:
            yield client, limits, shared
    else:
        limits = plain = headgate.mcp.RateLimits(*rules, **options)
        of_sdk = MCPServer("tools", middleware=[plain])
        for tool in (search, embed, fail, slow):
            of_sdk.tool()(tool)
        of_sdk.resource("data://note")(note)
        of_sdk.prompt("greet")(note)
        async with mcp.Client(of_sdk) as sdk_client:
            yield sdk_client, limits, shared


async def called(client: Any, tool: str, **arguments: Any) -> dict[str, Any] | None:
    """The data of the refusal of a call; None where it was not refused."""
    return await refusal(client.call_tool, tool, arguments)


async def refusal(call: Call, *arguments: Any) -> dict[str, Any] | None:
    try:
        await call(*arguments)
    except MCPError as error:
        if error.code != RATE_LIMITED:
            raise
        data: dict[str, Any] = error.data
        return data
    except Exception as error:
        assert "it failed" in str(error)  # noqa: PT017 - FastMCP's client raises what the SDK's returns
    return None


pytestmark = pytest.mark.parametrize("library", LIBRARIES)


async def test_a_refusal_says_when_to_come_back_and_which_limit_it_was(library: str) -> None:
    async with served(library, "2/minute") as (client, _, shared):
        assert [await called(client, "search"), await called(client, "embed")] == [None, None]
        with pytest.raises(MCPError) as caught:
            await client.call_tool("search", {"query": "third"})
        assert caught.value.code == RATE_LIMITED
        assert caught.value.data == {"retry_after": 30.0, "limit": "calls", "reason": "limit"}
        assert str(caught.value) == "Rate limit exceeded (calls): try again in 30 s"
        assert shared["ran"] == ["search", "embed"]


async def test_limits_that_are_switched_off_ask_nothing(library: str) -> None:
    async with served(library, "1/minute", tools={"search": "1/hour"}, enabled=False) as (client, limits, shared):
        assert [await called(client, "search") for _ in range(3)] == [None] * 3
        assert shared["ran"] == ["search"] * 3
        assert not limits.limiter.is_enabled


async def test_a_long_wait_is_told_in_plain_seconds(library: str) -> None:
    async with served(library, "fixed-window 1/30d", store=MemoryStore(clock=ManualClock(0))) as (client, _, _):
        assert await called(client, "search") is None
        with pytest.raises(MCPError, match=r"try again in 2592000 s"):
            await client.call_tool("search", {})


async def test_whoever_comes_back_then_is_let_through(library: str) -> None:
    clock = ManualClock()
    async with served(library, "1/minute", store=MemoryStore(clock=clock)) as (client, _, _):
        assert await called(client, "search") is None
        told = await called(client, "search")
        assert told is not None
        clock.advance(told["retry_after"])
        assert await called(client, "search") is None
        assert await called(client, "search") is not None


async def test_a_tool_has_a_limit_of_its_own_besides(library: str) -> None:
    async with served(library, "3/minute", tools={"search": "1/minute"}) as (client, _, _):
        assert await called(client, "search") is None
        assert ((await called(client, "search")) or {})["limit"] == "tools/search:1/minute"
        assert [await called(client, "embed"), await called(client, "embed")] == [None, None]
        assert ((await called(client, "embed")) or {})["limit"] == "calls"


async def test_a_call_spends_in_all_of_its_limits_or_in_none(library: str) -> None:
    own = {"search": ["5/minute", "1/hour"]}
    async with served(library, "3/minute", tools=own) as (client, limits, _):
        refused = [await called(client, "search") for _ in range(4)]
        assert [one is None for one in refused] == [True, False, False, False]
        assert [await called(client, "embed") for _ in range(2)] == [None, None]
        assert await called(client, "embed") is not None
        await limits.reset("unknown")
        assert await called(client, "embed") is None


async def test_a_cost_is_a_number_or_a_function_of_the_arguments(library: str) -> None:
    def texts(call: McpCall) -> int:
        return len(call.arguments["texts"])

    tools = {"embed": Rule("10/minute", name="texts", cost=texts), "search": Rule("10/minute", name="dear", cost=6)}
    async with served(library, tools=tools) as (client, _, _):
        assert await called(client, "embed", texts=["a"] * 7) is None
        assert ((await called(client, "embed", texts=["a"] * 4)) or {})["retry_after"] == 6.0
        assert await called(client, "embed", texts=["a"] * 3) is None
        assert await called(client, "search") is None
        assert await called(client, "search") is not None


async def test_a_call_that_costs_more_than_its_limit_is_told_never(library: str) -> None:
    tools = {"embed": Rule("10/minute", name="texts", cost=lambda call: len(call.arguments["texts"]))}
    async with served(library, tools=tools) as (client, _, shared):
        told = await called(client, "embed", texts=["a"] * 11)
        assert told == {"retry_after": None, "limit": "texts", "reason": "cost"}
        assert shared["ran"] == []


async def test_a_slot_is_held_while_a_tool_runs(library: str) -> None:
    async with served(library, tools={"slow": "concurrency 1"}) as (client, _, shared):
        first = asyncio.create_task(called(client, "slow"))
        await shared["started"].wait()
        assert ((await called(client, "slow")) or {})["reason"] == "limit"
        assert await called(client, "search") is None
        shared["go"].set()
        assert await first is None
        assert await called(client, "slow") is None


async def test_a_slot_comes_back_from_a_tool_that_fails(library: str) -> None:
    async with served(library, tools={"fail": "concurrency 1"}) as (client, _, _):
        assert [await called(client, "fail") for _ in range(3)] == [None, None, None]


async def test_a_slot_comes_back_from_a_call_that_is_cancelled(library: str, valkey_url: str, prefix: str) -> None:
    """On a server, where giving back takes a while."""
    store = RedisStore(valkey_url, prefix=prefix, timeout=5)
    async with served(library, tools={"slow": "concurrency 1"}, store=store) as (client, _, shared):

        async def is_let_through() -> bool:
            return await called(client, "slow") is None

        async with anyio.create_task_group() as group:
            group.start_soon(called, client, "slow")
            await shared["started"].wait()
            group.cancel_scope.cancel()
        shared["go"].set()
        await soon(is_let_through, "the slot is free")
    await store.aclose()


async def test_a_rule_may_charge_by_the_outcome(library: str) -> None:
    charged = Rule("1/minute", name="failures", charge_when=lambda response: response.status_code == 500)
    async with served(library, charged) as (client, _, _):
        assert [await called(client, "search") for _ in range(3)] == [None, None, None]
        assert await called(client, "fail") is None
        assert await called(client, "search") is not None


async def test_a_shadow_counts_and_refuses_nobody(library: str) -> None:
    heard = Heard()
    detach = observer.attach(heard)
    try:
        async with served(library, Rule("1/minute", name="soon", is_shadow=True)) as (client, _, _):
            assert [await called(client, "search") for _ in range(3)] == [None, None, None]
    finally:
        detach()
    assert heard.shadows == 2


@pytest.mark.parametrize(("on_outage", "answer"), [("open", None), ("closed", "outage")])
async def test_an_outage_is_answered_as_the_rule_says(library: str, on_outage: Any, answer: str | None) -> None:
    rule = Rule("1/minute", name="all", on_outage=on_outage)
    async with served(library, rule, store="redis://127.0.0.1:1/0") as (client, limits, _):
        told = [await called(client, "search") for _ in range(2)]
        assert [one and one["reason"] for one in told] == [answer, answer]
        assert all(one is None or one["retry_after"] == 1.0 for one in told)
        await limits.aclose()


async def test_resources_and_prompts_are_counted_where_that_is_wished(library: str) -> None:
    async with served(library, "1/minute") as (client, _, _):
        for _ in range(3):
            await client.read_resource("data://note")
            await client.get_prompt("greet")
            await client.list_tools()
    every: Any = ("tools", "resources", "prompts")
    own: Any = {"resources": {"data://note": "2/minute"}, "prompts": {"greet": "1/minute"}}
    async with served(library, "10/minute", counts=every, **own) as (client, _, _):
        told = [await refusal(client.read_resource, "data://note") for _ in range(3)]
        assert [one and one["limit"] for one in told] == [None, None, "resources:2/minute"]
        told = [await refusal(client.get_prompt, "greet") for _ in range(2)]
        assert [one and one["limit"] for one in told] == [None, "prompts/greet:1/minute"]
        assert await called(client, "search") is None


async def test_rules_find_calls_by_path_and_method(library: str) -> None:
    rules = [
        Rule("1/minute", name="search", paths=["/tools/search"]),
        Rule("2/minute", name="each", is_per_route=True, methods=["tools/call"], paths=["/tools/*"]),
    ]
    async with served(library, *rules, exempt=["/tools/fail"]) as (client, _, _):
        assert [await called(client, "search") is None for _ in range(2)] == [True, False]
        assert [await called(client, "embed") is None for _ in range(3)] == [True, True, False]
        assert [await called(client, "fail") for _ in range(3)] == [None, None, None]


async def test_a_limiter_of_ones_own_is_shared_with_all_else_that_it_limits(library: str) -> None:
    limiter = AsyncLimiter("2/minute", store=MemoryStore(clock=ManualClock()))
    async with served(library, limiter, tools={"embed": limiter}) as (client, _, _):
        assert await called(client, "search") is None
        assert await limiter.try_acquire("unknown")
        assert await called(client, "search") is not None


async def test_a_penalty_blocks_those_who_are_refused_too_often(library: str) -> None:
    rule = Rule("1/minute", name="all", penalty="2 denials/minute -> 1h")
    async with served(library, rule) as (client, _, _):
        told = [await called(client, "search") for _ in range(4)]
        assert told[0] is None
        assert told[3] is not None
        assert (told[3]["limit"], told[3]["retry_after"]) == ("all:penalty", 3600.0)


async def test_who_calls_may_be_told_by_a_function(library: str) -> None:
    async with served(library, "1/minute", identity=lambda call: call.arguments.get("query")) as (client, _, _):
        assert [await called(client, "search", query=who) is None for who in ("a", "b", "a", "b")] == [
            True,
            True,
            False,
            False,
        ]


async def test_an_unknown_tool_is_counted_with_all_calls(library: str) -> None:
    async with served(library, "1/minute") as (client, _, _):
        try:
            await client.call_tool("nothing", {})
        except Exception as error:
            assert "Unknown tool" in str(error)  # noqa: PT017 - the SDK's client returns what FastMCP's raises
        assert await called(client, "search") is not None


async def test_limits_that_do_not_fit_are_refused_at_once(library: str) -> None:
    kind: Any = {"fastmcp": headgate.fastmcp.RateLimits, "mcp": headgate.mcp.RateLimits}[library]
    with pytest.raises(InvalidUse, match="prompts have limits, and calls of them are not counted"):
        kind(prompts={"greet": "1/minute"})
    with pytest.raises(InvalidUse, match="some of tools, resources, prompts, not"):
        kind("1/minute", counts="tools")
    with pytest.raises(InvalidUse, match="Limiter would block its event loop"):
        kind(tools={"search": Limiter("1/minute")})
    with pytest.raises(InvalidUse, match="Limiter would block its event loop"):
        kind(Limiter("1/minute"))


async def test_a_refusal_can_be_pickled(library: str) -> None:
    async with served(library, "1/minute") as (client, _, _):
        await called(client, "search")
        with pytest.raises(MCPError) as caught:
            await client.call_tool("search", {})
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args

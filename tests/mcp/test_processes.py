"""MCP over HTTP: real servers, several processes of them, share their limits; and who calls is told by the token."""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp.shared.exceptions import MCPError

from headgate.mcp import RATE_LIMITED
from tests.docs.markdown import ROOT
from tests.servers import eventually, free_port

LIMIT = 5
"""Calls in an hour: see `serving.py`."""

pytestmark = pytest.mark.parametrize("library", ["fastmcp", "mcp"])


def answers(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException), closing(http.client.HTTPConnection("127.0.0.1", port)) as probe:
        probe.request("GET", "/nothing")
        return probe.getresponse().status > 0
    return False


@contextmanager
def serving(library: str, store: str, prefix: str = "-", kind: str = "open") -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tests.mcp.serving", library, str(port), store, prefix, kind]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ))
    try:
        eventually(lambda: process.poll() is not None or answers(port), "the server answers")
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


@asynccontextmanager
async def client(url: str, token: str | None = None, **headers: str) -> AsyncIterator[Client[Any]]:
    async with Client(StreamableHttpTransport(url, auth=token, headers=headers)) as made:
        yield made


async def count_admitted(calls: int, *clients: Client[Any]) -> int:
    """How many calls come through, of so many by each client at a time."""

    async def is_admitted(one: Client[Any]) -> bool:
        try:
            await one.call_tool("echo", {"text": "x"})
        except MCPError as error:
            if error.code != RATE_LIMITED or not 0 < error.data["retry_after"] <= 3600:
                raise
            return False
        return True

    return sum(await asyncio.gather(*(is_admitted(one) for one in clients for _ in range(calls))))


async def test_all_processes_of_a_server_share_a_limit(library: str, valkey_url: str, prefix: str) -> None:
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(library, valkey_url, prefix)) for _ in range(2)]
        async with client(urls[0]) as first, client(urls[1]) as second:
            assert await count_admitted(8, first, second) == LIMIT
        async with client(urls[0], **{"x-forwarded-for": "198.51.100.7"}) as forging:
            assert await count_admitted(2, forging) == 0


async def test_a_person_has_one_share_by_his_tokens_and_others_have_their_own(
    library: str, valkey_url: str, prefix: str
) -> None:
    with serving(library, valkey_url, prefix, "tokens") as url:
        async with client(url, "ada") as ada, client(url, "ada-again") as again:
            assert await count_admitted(4, ada, again) == LIMIT
        for other in ("bob", "robot"):
            async with client(url, other) as one:
                assert await count_admitted(LIMIT + 2, one) == LIMIT


async def test_a_session_may_be_the_one_that_calls(library: str) -> None:
    """Of clients of the older protocol, which has sessions; those of the newer have none, and one share."""
    with serving(library, "memory://", kind="sessions") as url:
        for mode, shares in (("legacy", 2), ("auto", 1)):
            admitted = 0
            for _ in range(2):
                made: Client[Any] = Client(url, mode=mode)
                async with made:
                    admitted += await count_admitted(LIMIT + 2, made)
            assert admitted == shares * LIMIT

"""One way to call a vendor with each client: those that block run in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import requests

from headgate import AsyncLimiter, Limiter
from headgate.clients.aiohttp import RateLimitMiddleware
from headgate.clients.httpx import AsyncRateLimitTransport, RateLimitTransport
from headgate.clients.httpx2 import AsyncRateLimitTransport as AsyncRateLimitTransport2
from headgate.clients.httpx2 import RateLimitTransport as RateLimitTransport2
from headgate.clients.requests import RateLimitAdapter

KINDS: Final = ("httpx", "httpx-async", "httpx2", "httpx2-async", "requests", "aiohttp")
ASYNC: Final = ("httpx-async", "httpx2-async", "aiohttp")
MAKERS: Final[dict[str, Callable[..., Any]]] = {
    "httpx": RateLimitTransport,
    "httpx-async": AsyncRateLimitTransport,
    "httpx2": RateLimitTransport2,
    "httpx2-async": AsyncRateLimitTransport2,
    "requests": RateLimitAdapter,
    "aiohttp": RateLimitMiddleware,
}
REFUSED: Final = (httpx.ConnectError, httpx2.ConnectError, requests.ConnectionError, aiohttp.ClientConnectorError)
"""What the clients raise where nobody listens."""
LOST: Final = (
    *(httpx.RemoteProtocolError, httpx.ReadError, httpx2.RemoteProtocolError, httpx2.ReadError),
    *(requests.ConnectionError, aiohttp.ServerDisconnectedError),
)
"""What they raise where the vendor hangs up."""

Calls = Callable[..., Any]
"""Send a request, `(url, method="GET", data=None)`, and return the status of the answer, which is read whole."""


def limiter_kind(kind: str) -> type[Limiter | AsyncLimiter]:
    """The limiters that a client asks by."""
    return AsyncLimiter if kind in ASYNC else Limiter


@asynccontextmanager
async def calling(kind: str, *limits: Any, **options: Any) -> AsyncIterator[Calls]:
    """A client of a kind behind limits."""
    made = MAKERS[kind](*limits, **options)
    library: Any = httpx2 if kind.startswith("httpx2") else httpx
    if kind in ("httpx", "httpx2"):
        with library.Client(transport=made, follow_redirects=True, trust_env=False) as client:

            def send(url: str, method: str = "GET", data: Any = None) -> int:
                status: int = client.request(method, url, content=data).status_code
                return status

            yield lambda *given: asyncio.to_thread(send, *given)
    elif kind == "requests":
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", made)

            def request(url: str, method: str = "GET", data: Any = None) -> int:
                return session.request(method, url, data=data).status_code

            yield lambda *given: asyncio.to_thread(request, *given)
    elif kind in ("httpx-async", "httpx2-async"):
        async with library.AsyncClient(transport=made, follow_redirects=True, trust_env=False) as async_client:

            async def send_async(url: str, method: str = "GET", data: Any = None) -> int:
                response = await async_client.request(method, url, content=data)
                status: int = response.status_code
                return status

            yield send_async
    else:
        async with made, aiohttp.ClientSession(middlewares=(made,)) as http:

            async def read(url: str, method: str = "GET", data: Any = None) -> int:
                async with http.request(method, url, data=data) as response:
                    await response.read()
                    return response.status

            yield read

"""aiohttp: a middleware of client sessions, which waits for its turn.

limits = RateLimitMiddleware("50/second", store="redis://localhost:6379/0")
async with limits, aiohttp.ClientSession(middlewares=(limits,)) as session: ...

Redirects are requests of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Self, Unpack

try:
    import aiohttp
    from aiohttp import ClientHandlerType
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("aiohttp (3.12 or later)", "aiohttp-client") from error

from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, ClientOptions, Library
from headgate.limiter.limiters import AsyncLimiter
from headgate.limiter.naming import Limits
from headgate.web.core import run_async


class RateLimitMiddleware:
    """A middleware of `aiohttp.ClientSession`. Safe to share between tasks and sessions.

    The parameters are those of `ClientLimits`. The functions are called with an `aiohttp.ClientRequest`. aiohttp's own
    `ClientTimeout(total=...)`, of 5 minutes by default, includes the wait.
    """

    def __init__(self, limit: Limits | AsyncLimiter, **options: Unpack[ClientOptions]) -> None:
        self._limits: Final = ClientLimits(AsyncLimiter, _LIBRARY, limit, **options)

    async def __call__(self, request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request when it is its turn: aiohttp calls this. A task that is cancelled while it waits gives its
        tokens back.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        response: aiohttp.ClientResponse = await run_async(self._limits.exchange(request, partial(handler, request)))
        return response

    async def aclose(self) -> None:
        """Close what was opened for the limits: after the sessions."""
        await asyncio.gather(*_of_this_loop(), return_exceptions=True)
        await self._limits.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


_releasing: Final[set[asyncio.Task[Any]]] = set()
"""Tasks that release slots: of a response, nobody awaits the end."""


def _of_this_loop() -> list[asyncio.Task[Any]]:
    loop = asyncio.get_running_loop()
    return [task for task in _releasing if task.get_loop() is loop]


def _when_closed(response: aiohttp.ClientResponse, closed: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
    connection = response.connection
    if connection is None:  # the whole response has come
        return False
    loop = asyncio.get_running_loop()

    def release() -> None:
        task = loop.create_task(closed(), name="headgate-release")
        _releasing.add(task)
        task.add_done_callback(_releasing.discard)

    connection.add_callback(release)
    return True


_LIBRARY: Final = Library(
    host=lambda request: request.url.host,
    is_unsent=lambda error: isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)),
    can_resend=lambda request: isinstance(request.body, (bytes, aiohttp.BytesPayload)),
    answer=lambda response: Answer(response.status, response.headers, response),
    discard=aiohttp.ClientResponse.close,
    when_closed=_when_closed,
)

__all__ = ["RateLimitMiddleware"]

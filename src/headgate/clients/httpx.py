"""httpx: transports that wait for their turn.

client = httpx.Client(transport=RateLimitTransport("50/second", store="redis://localhost:6379/0"))

They wrap another transport, which sends. Redirects are requests of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, Unpack

try:
    import httpx
except ImportError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("httpx", "httpx") from error

from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, ClientOptions, Library
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits
from headgate.web.core import run, run_async

_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Errors of requests that have no connection yet."""


class RateLimitTransport(httpx.BaseTransport):
    """A transport of `httpx.Client` behind limits. Safe to share between threads.

    The other parameters are those of `ClientLimits`. The functions are called with an `httpx.Request`.

    :param transport: the one that sends: `httpx.HTTPTransport()` by default. It closes with this one.
    """

    def __init__(
        self, limit: Limits | Limiter, transport: httpx.BaseTransport | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        self._limits: Final = ClientLimits(Limiter, _library(httpx.Response.close, _Stream), limit, **options)
        self._transport: Final = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when it is its turn: httpx calls this.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        response: httpx.Response = run(self._limits.exchange(request, partial(self._transport.handle_request, request)))
        return response

    def close(self) -> None:
        """Close the transport, and what was opened for the limits."""
        try:
            self._transport.close()
        finally:
            self._limits.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        try:
            self._transport.__exit__(exc_type, exc_value, traceback)
        finally:
            self._limits.close()


class AsyncRateLimitTransport(httpx.AsyncBaseTransport):
    """A transport of `httpx.AsyncClient` behind limits, for asyncio. Safe to share between tasks.

    The other parameters are those of `ClientLimits`. The functions are called with an `httpx.Request`.

    :param transport: the one that sends: `httpx.AsyncHTTPTransport()` by default. It closes with this one.
    """

    def __init__(
        self,
        limit: Limits | AsyncLimiter,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._limits: Final = ClientLimits(
            AsyncLimiter, _library(httpx.Response.aclose, _AsyncStream), limit, **options
        )
        self._transport: Final = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when it is its turn: httpx calls this. A task that is cancelled while it waits gives its
        tokens back.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        response: httpx.Response = await run_async(
            self._limits.exchange(request, partial(self._transport.handle_async_request, request))
        )
        return response

    async def aclose(self) -> None:
        """Close the transport, and what was opened for the limits."""
        try:
            await self._transport.aclose()
        finally:
            await self._limits.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        try:
            await self._transport.__aexit__(exc_type, exc_value, traceback)
        finally:
            await self._limits.aclose()


class _Stream(httpx.SyncByteStream):
    """The body of a response, which tells when it is closed."""

    def __init__(self, body: Any, closed: Callable[[], Any]) -> None:
        self._body = body
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body

    def close(self) -> None:
        try:
            self._body.close()
        finally:
            self._closed()


class _AsyncStream(httpx.AsyncByteStream):
    """The same, of asyncio."""

    def __init__(self, body: Any, closed: Callable[[], Any]) -> None:
        self._body = body
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._closed()


def _when_closed(response: httpx.Response, stream: type[_Stream | _AsyncStream], closed: Callable[[], Any]) -> bool:
    if not response.is_closed:
        response.stream = stream(response.stream, closed)
    return not response.is_closed


def _library(discard: Any, stream: type[_Stream | _AsyncStream]) -> Library:
    return Library(
        host=lambda request: request.url.host,
        is_unsent=lambda error: isinstance(error, _UNSENT),
        can_resend=lambda request: isinstance(request.stream, httpx.ByteStream),
        answer=lambda response: Answer(response.status_code, response.headers, response),
        discard=discard,
        when_closed=lambda response, closed: _when_closed(response, stream, closed),
    )


__all__ = ["AsyncRateLimitTransport", "RateLimitTransport"]

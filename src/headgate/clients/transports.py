"""The transports of httpx and of httpx2, whose interface is one, and whose classes are not.

Each library's module makes its own of these. This module must not import either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, ClientOptions, Library
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits
from headgate.web.core import run, run_async


class BlockingTransport:
    """A transport of clients that block."""

    def __init__(self, library: Library, limit: Limits | Limiter, transport: Any, options: ClientOptions) -> None:
        self._limits: Final = ClientLimits(Limiter, library, limit, **options)
        self._transport: Final = transport

    def handle_request(self, request: Any) -> Any:
        """Send a request when it is its turn: the client calls this.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        return run(self._limits.exchange(request, partial(self._transport.handle_request, request)))

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


class AsyncioTransport:
    """A transport of clients of asyncio."""

    def __init__(self, library: Library, limit: Limits | AsyncLimiter, transport: Any, options: ClientOptions) -> None:
        self._limits: Final = ClientLimits(AsyncLimiter, library, limit, **options)
        self._transport: Final = transport

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request when it is its turn: the client calls this. A task that is cancelled while it waits gives its
        tokens back.

        :raises AcquireTimeout: if it would wait for longer than it may.
        """
        return await run_async(self._limits.exchange(request, partial(self._transport.handle_async_request, request)))

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


class Body:
    """The body of a response, which tells when it is closed."""

    def __init__(self, body: Any, closed: Callable[[], Any]) -> None:
        self._body = body
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body

    def close(self) -> None:
        """Close it, and tell so."""
        try:
            self._body.close()
        finally:
            self._closed()


class AsyncBody:
    """The same, of asyncio."""

    def __init__(self, body: Any, closed: Callable[[], Any]) -> None:
        self._body = body
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        """Close it, and tell so."""
        try:
            await self._body.aclose()
        finally:
            await self._closed()


def library_of(module: Any, discard: Callable[[Any], Any], body: Callable[[Any, Callable[[], Any]], Any]) -> Library:
    """A library as limits see it: `httpx` or `httpx2`.

    :param discard: closes a response.
    :param body: makes the body of a response one that tells when it is closed.
    """
    unsent = (module.ConnectError, module.ConnectTimeout, module.PoolTimeout, module.UnsupportedProtocol)

    def when_closed(response: Any, closed: Callable[[], Any]) -> bool:
        if not response.is_closed:
            response.stream = body(response.stream, closed)
        return not response.is_closed

    return Library(
        host=lambda request: request.url.host,
        is_unsent=lambda error: isinstance(error, unsent),  # there is no connection yet
        can_resend=lambda request: isinstance(request.stream, module.ByteStream),
        answer=lambda response: Answer(response.status_code, response.headers, response),
        discard=discard,
        when_closed=when_closed,
    )

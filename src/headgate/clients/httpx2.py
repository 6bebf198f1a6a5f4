"""httpx2: transports that wait for their turn.

client = httpx2.Client(transport=RateLimitTransport("50/second", store="redis://localhost:6379/0"))

They wrap another transport, which sends. Redirects are requests of their own.
"""

from __future__ import annotations

from typing import Final, Unpack

try:
    import httpx2
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("httpx2", "httpx2") from error

from headgate.clients.limits import ClientOptions
from headgate.clients.transports import AsyncBody, AsyncioTransport, BlockingTransport, Body, library_of
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits


class RateLimitTransport(BlockingTransport, httpx2.BaseTransport):
    """A transport of `httpx2.Client` behind limits. Safe to share between threads.

    The other parameters are those of `ClientLimits`. The functions are called with an `httpx2.Request`.

    :param transport: the one that sends: `httpx2.HTTPTransport()` by default. It closes with this one.
    """

    def __init__(
        self, limit: Limits | Limiter, transport: httpx2.BaseTransport | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(_BLOCKING, limit, httpx2.HTTPTransport() if transport is None else transport, options)


class AsyncRateLimitTransport(AsyncioTransport, httpx2.AsyncBaseTransport):
    """A transport of `httpx2.AsyncClient` behind limits, for asyncio. Safe to share between tasks.

    The other parameters are those of `ClientLimits`. The functions are called with an `httpx2.Request`.

    :param transport: the one that sends: `httpx2.AsyncHTTPTransport()` by default. It closes with this one.
    """

    def __init__(
        self,
        limit: Limits | AsyncLimiter,
        transport: httpx2.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(_ASYNCIO, limit, httpx2.AsyncHTTPTransport() if transport is None else transport, options)


class _Body(Body, httpx2.SyncByteStream): ...


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream): ...


_BLOCKING: Final = library_of(httpx2, httpx2.Response.close, _Body)
_ASYNCIO: Final = library_of(httpx2, httpx2.Response.aclose, _AsyncBody)

__all__ = ["AsyncRateLimitTransport", "RateLimitTransport"]

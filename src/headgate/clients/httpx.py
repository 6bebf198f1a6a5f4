"""httpx: transports that wait for their turn.

client = httpx.Client(transport=RateLimitTransport("50/second", store="redis://localhost:6379/0"))

They wrap another transport, which sends. Redirects are requests of their own.
"""

from __future__ import annotations

from typing import Final, Unpack

try:
    import httpx
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("httpx", "httpx") from error

from headgate.clients.limits import ClientOptions
from headgate.clients.transports import AsyncBody, AsyncioTransport, BlockingTransport, Body, library_of
from headgate.limiter.limiters import AsyncLimiter, Limiter
from headgate.limiter.naming import Limits


class RateLimitTransport(BlockingTransport, httpx.BaseTransport):
    """A transport of `httpx.Client` behind limits. Safe to share between threads.

    The other parameters are those of `ClientLimits`. The functions are called with an `httpx.Request`.

    :param transport: the one that sends: `httpx.HTTPTransport()` by default. It closes with this one.
    """

    def __init__(
        self, limit: Limits | Limiter, transport: httpx.BaseTransport | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(_BLOCKING, limit, httpx.HTTPTransport() if transport is None else transport, options)


class AsyncRateLimitTransport(AsyncioTransport, httpx.AsyncBaseTransport):
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
        super().__init__(_ASYNCIO, limit, httpx.AsyncHTTPTransport() if transport is None else transport, options)


class _Body(Body, httpx.SyncByteStream): ...


class _AsyncBody(AsyncBody, httpx.AsyncByteStream): ...


_BLOCKING: Final = library_of(httpx, httpx.Response.close, _Body)
_ASYNCIO: Final = library_of(httpx, httpx.Response.aclose, _AsyncBody)

__all__ = ["AsyncRateLimitTransport", "RateLimitTransport"]

"""One request of aiohttp from its decision to the last of its response, and as rules and identities see it.

This module must not know how rules come to routes, nor does it load aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from headgate.rules import Rule
from headgate.web.admission import together
from headgate.web.core import WebLimiter
from headgate.web.exchange import Exchange
from headgate.web.limits import AppLimits
from headgate.web.names import named

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.abc import AbstractStreamWriter

_ending: Final[set[asyncio.Task[None]]] = set()
"""Requests whose connections were lost, and which are brought to their end all the same."""


class AiohttpRequest:
    """A request of aiohttp, as rules and identities see it."""

    __slots__ = ("method", "native", "path", "route")

    def __init__(self, request: web.Request, route: str | None) -> None:
        self.native = request
        self.method = request.method.upper()
        # aiohttp routes by the raw path, where an encoded slash is none: it stays `%2F`
        self.path = request.rel_url.path_safe.replace("%25", "%")
        self.route = route

    @property
    def peer(self) -> str | None:
        """As `WebRequest.peer`."""
        return self.native.remote or None

    @property
    def user(self) -> str | None:
        """None: aiohttp has no users of its own. A function as the source of the identity says who it is."""
        return None

    def values(self, name: str) -> Sequence[str]:
        """As `WebRequest.values`."""
        return self.native.headers.getall(name, ())

    def query(self, name: str) -> str | None:
        """As `WebRequest.query`."""
        return self.native.query.get(name)


class RequestExchange(Exchange):
    """A request of aiohttp, its decisions and its response. Used by one task at a time."""

    is_watched = False
    """Is it seen when the response ends?"""

    def __init__(self, limiter: WebLimiter[Any], request: web.Request) -> None:
        super().__init__(limiter, {}, None)
        self.is_bare = False
        self.asked: list[tuple[AppLimits[Any], Rule]] = []
        """The rules of routes that were asked, as the routes were given them."""
        self._task: asyncio.Task[Any] = request.task
        self._writer: AbstractStreamWriter | None = None

    def begin(self, response: web.StreamResponse) -> None:
        """Begin the response: it gets the headers of the decisions. Those that it has stay as they are."""
        self.status = response.status
        decided = self.decided
        if not decided:
            return
        told = decided[0][1] if len(decided) == 1 else together([admission for _, admission in decided])
        headers = response.headers
        for name, value in self.limiter.fields(told):
            if name not in headers:
                headers[name] = value
        if decided[-1][1].refusal is not None and "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-store"
        if self.is_unfinished:
            self.headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        else:
            self._let_go()

    def watch(self, request: web.Request) -> None:
        """See to it that the exchange ends before the last of the response is sent: clients come back as soon as they
        have it. Where no response comes to its end, it ends with the connection.
        """
        if self.is_watched or not self.is_unfinished:
            return
        self.is_watched = True
        writer = self._writer = request.writer
        write_eof = writer.write_eof

        async def writing(chunk: bytes = b"") -> None:
            failure: Exception | None = None
            if not self.is_ended:
                try:
                    await self.end(None)
                except Exception as error:
                    failure = error
            await write_eof(chunk)
            if failure is not None:
                raise failure

        writer.write_eof = writing  # type: ignore[method-assign]  # of this response alone
        self._task.add_done_callback(self._lost)

    async def end(self, error: BaseException | None) -> None:
        """Settle and release what the request took. It is done in the end even if this task is cancelled meanwhile."""
        self._task.remove_done_callback(self._lost)
        writer, self._writer = self._writer, None
        if writer is not None:
            del writer.write_eof  # that of its class is back
        try:
            await super().end(error)
        finally:
            self._let_go()

    def _lost(self, _: asyncio.Task[Any]) -> None:
        if not self.is_ended:
            task = asyncio.get_running_loop().create_task(self.end(None), name="headgate-exchange")
            _ending.add(task)
            task.add_done_callback(_ending.discard)

    def _let_go(self) -> None:
        """The request has its exchange: without this, both would stay until the garbage collector comes by."""
        for _, admission in self.decided:
            if hasattr(admission, "request"):
                del admission.request


def route_of(request: web.Request) -> str | None:
    """The name of the route that a request takes, such as `GET /users/{id}`; None if there is none."""
    route = request.match_info.route
    resource = route.resource
    if resource is None:  # nothing is at this path, or not by this method
        return None
    method = "GET" if route.method == "HEAD" else route.method  # what is added for GET is added for HEAD as well
    return named(() if method == "*" else (method,), resource.canonical)

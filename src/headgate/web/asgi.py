"""ASGI: rate limits as a middleware of no framework. This module must not know one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from headgate.limiter.limiters import AsyncLimiter
from headgate.web.admission import Admission
from headgate.web.core import run_async
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATE = "headgate.admission"
"""Where a scope keeps what was decided about its request."""


class AsgiRequest:
    """A request of ASGI, as rules and identities see it."""

    __slots__ = ("_scope", "method", "native", "path", "route")

    def __init__(self, scope: Scope, native: Any = None) -> None:
        self._scope = scope
        self.method: str = scope.get("method", "GET").upper()
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        self.path = path[len(root) :] if root and re.match(re.escape(root) + "(/|$)", path) else path
        self.native = scope if native is None else native
        self.route: str | None = None

    @property
    def peer(self) -> str | None:
        """As `WebRequest.peer`."""
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def user(self) -> str | None:
        """The user that an authentication of the server's kind has put into the scope."""
        user = self._scope.get("user")
        return str(user.identity) if user is not None and getattr(user, "is_authenticated", False) else None

    def values(self, name: str) -> Sequence[str]:
        """As `WebRequest.values`."""
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for known, value in self._scope["headers"] if known == wanted]

    def query(self, name: str) -> str | None:
        """As `WebRequest.query`."""
        found = parse_qs(self._scope.get("query_string", b"").decode("latin-1")).get(name)
        return found[0] if found else None


class RateLimits(AppLimits[AsyncLimiter]):
    """The rate limits of an ASGI app: see `AppLimits`."""

    kind = AsyncLimiter

    def middleware(self, app: App) -> App:
        """The app behind its limits."""
        return RateLimitMiddleware(app, self)


class RateLimitMiddleware:
    """Puts an ASGI app behind its limits."""

    def __init__(self, app: App, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide about a request, and let it through, or answer in its place."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limiter = self._limits.limiter
        admission: Admission = await run_async(limiter.admit(AsgiRequest(scope)))
        scope[STATE] = admission
        if not admission.is_admitted:
            answer = limiter.refuse(admission)
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
            return
        response: WebResponse | None = None

        async def sending(message: Message) -> None:
            nonlocal response
            if message["type"] == "http.response.start":
                fields = [
                    (name.encode("latin-1"), value.encode("latin-1")) for name, value in limiter.fields(admission)
                ]
                message["headers"] = [*message.get("headers", ()), *fields]
                if admission.is_unfinished:
                    told = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
                    response = WebResponse(message["status"], told, admission.request.native)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if admission.is_unfinished:
                await run_async(limiter.finish(admission, response))

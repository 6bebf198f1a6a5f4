"""One request of ASGI from its first message to its last: all that was decided about it, and what its client is told.

Whoever meets a request first, of several middlewares, makes its exchange and ends it; all others add what they decide.
So headers are added once, however many have decided. This module must not know a framework of ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final

from headgate.decision import Decision
from headgate.rules import Rule
from headgate.web.admission import Admission, Answer, together
from headgate.web.core import WebLimiter, run_async
from headgate.web.messages import WebResponse
from headgate.web.responses import encoded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
AnyApp = Callable[[Any, Any, Any], Awaitable[Any]]
"""An app as frameworks declare theirs: each has types of its own for the same scopes and messages."""

EXCHANGE: Final = "headgate.exchange"
"""Where a scope keeps the exchange of its request."""
DENIAL_EXTENSION: Final = "websocket.http.response"
"""By this extension a server can answer the opening of a websocket with a response."""
POLICY_VIOLATION: Final = 1008
"""The code with which a websocket is closed that its limits do not admit."""

_STATUS_OF: Final = {"http.response.start": None, "websocket.http.response.start": None, "websocket.accept": 101}
"""The messages that take headers, and their status; None where they say it themselves."""
_BODIES: Final = frozenset({"http.response.body", "websocket.http.response.body"})
"""The messages of which the last ends a response."""
_ending: Final[set[asyncio.Task[None]]] = set()
"""Requests whose tasks were cancelled, and which are brought to their end all the same."""


class Exchange:
    """A request, its decisions and its response. Used by one task at a time."""

    status: int | None = None
    """The status of the response; None until it begins."""
    headers: Iterable[tuple[bytes, bytes]] = ()
    """The headers of the response."""
    is_ended = False
    failure: Exception | None = None
    """The failure of its end, to be raised when the response has been sent."""

    def __init__(self, limiter: WebLimiter[Any], scope: Scope, send: Send | None) -> None:
        """:param send: None if there is no middleware."""
        self.limiter = limiter
        """Renders the headers."""
        self.app: Any = None if send is None else scope.get("app")
        """The framework's app that the request met first; None if that is not known."""
        self.root_path: str | None = None if self.app is None else scope.get("root_path", "")
        """Where that app is mounted."""
        self._send = send
        self.is_bare = send is None
        """Does nobody add headers, nor end it: is there no middleware?"""
        self.decided: list[tuple[WebLimiter[Any], Admission]] = []
        """The decisions, of each app's limits in the order in which the request met them."""
        self.late: list[Rule] = []
        """The rules that were asked by themselves and that the route was not seen to have."""

    def admission_of(self, limiter: WebLimiter[Any]) -> Admission | None:
        """All that some limits have decided; None if they were not asked."""
        for one, admission in self.decided:
            if one is limiter:
                return admission
        return None

    def decision_of(self, limiter: WebLimiter[Any]) -> Decision | None:
        """The decision of some limits that binds: the one that denied, or is nearest to denying; None if no rule was
        asked.
        """
        admission = self.admission_of(limiter)
        return None if admission is None else admission.decision

    def raw_fields(self) -> list[tuple[bytes, bytes]]:
        """The header fields of all decisions."""
        decided = self.decided
        if not decided:
            return []
        told = decided[0][1] if len(decided) == 1 else together([admission for _, admission in decided])
        return self.limiter.responses.raw_fields(told)

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app; the one that begins its response with header fields. Before the one that ends it,
        the exchange ends: clients come back as soon as they have it. What is to be awaited is mostly the server's own:
        a coroutine around it would take time with each message.
        """
        assert self._send is not None
        kind = message["type"]
        if self.status is None:
            if kind in _STATUS_OF:
                message = self._begin(message, _STATUS_OF[kind])
            elif kind == "websocket.close":
                self.status = 403  # the server's answer to a close before the opening
        elif kind in _BODIES and not message.get("more_body") and self.is_unfinished:
            return self._send_last(message)
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        assert self._send is not None
        try:
            await self.end(None)
        except Exception as error:
            self.failure = error
        await self._send(message)

    @property
    def is_unfinished(self) -> bool:
        """Is something to be settled or released?"""
        if self.is_ended:
            return False
        for _, admission in self.decided:
            if admission.slots:
                return True
            for verdict in admission.verdicts:
                if verdict[0].is_settled:
                    return True
        return False

    async def end(self, error: BaseException | None) -> None:
        """Settle and release what the request took. It is done in the end even if this task is cancelled meanwhile."""
        self.is_ended = True
        if self.status is None and isinstance(error, Exception):
            self.status = 500
        task = asyncio.create_task(self._finish(self.decided), name="headgate-exchange")
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        await asyncio.shield(task)

    async def _finish(self, decided: Sequence[tuple[WebLimiter[Any], Admission]]) -> None:
        for limiter, admission in decided:
            response = None
            if self.status is not None:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
                response = WebResponse(self.status, headers, admission.request.native)
            await run_async(limiter.finish(admission, response))

    def _begin(self, message: Message, status: int | None) -> Message:
        """The message with header fields. The app's own stays as it is: a cache may have it."""
        self.status = message["status"] if status is None else status
        fields = self.raw_fields()
        own = message.get("headers") or ()
        if fields:
            own = list(own)
            names = {name.lower() for name, _ in own}  # those of the app stay as they are, however it spells them
            told = [field for field in fields if field[0] not in names]
            if self.decided[-1][1].refusal is not None and b"cache-control" not in names:
                told.append((b"cache-control", b"no-store"))
            own += told
            message = {**message, "headers": own}
        self.headers = own
        return message


class Denial:
    """The answer to a request that is refused: an app of ASGI."""

    def __init__(self, answer: Answer, response: App | None = None) -> None:
        """:param response: the user's own answer."""
        self._answer = answer
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a websocket by closing it, unless the server can answer it with a response."""
        prefix = ""
        if scope["type"] == "websocket":
            if DENIAL_EXTENSION not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Too many requests"})
                return
            prefix = "websocket."
        if self._response is not None:
            await self._response(scope, receive, send)
            return
        status, headers, body = self._answer
        raw = encoded(headers)
        if all(name != b"content-length" for name, _ in raw):
            raw.append((b"content-length", str(len(body)).encode("ascii")))
        body = b"" if scope.get("method") == "HEAD" else body
        await send({"type": f"{prefix}http.response.start", "status": status, "headers": raw})
        await send({"type": f"{prefix}http.response.body", "body": body, "more_body": False})

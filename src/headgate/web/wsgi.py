"""WSGI: rate limits as a middleware of no framework. This module must not know one.

app = RateLimitMiddleware(app, "100/minute", store="redis://localhost:6379/0")

Whoever meets a request first, of several middlewares, makes its exchange and ends it; all others add what they decide.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, Unpack
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from headgate.errors import InvalidUse
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import Limiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web.admission import Admission, Answer, together
from headgate.web.asking import admit
from headgate.web.core import WebLimiter, run
from headgate.web.limits import AppLimits
from headgate.web.messages import WebResponse
from headgate.web.options import LimitsOptions

EXCHANGE: Final = "headgate.exchange"
"""Where an environment keeps the exchange of its request."""
_WITHOUT_PREFIX: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""The headers that an environment does not call HTTP_..."""


class WsgiRequest:
    """A request of WSGI, as rules and identities see it."""

    __slots__ = ("_environ", "method", "native", "path", "route")

    def __init__(self, environ: WSGIEnvironment, native: Any = None) -> None:
        """:param native: the framework's request; the environment, where there is no framework."""
        self._environ = environ
        self.native = environ if native is None else native
        self.method: str = environ.get("REQUEST_METHOD", "GET").upper()
        self.path = path_within(environ)
        self.route: str | None = None

    @property
    def peer(self) -> str | None:
        """As `WebRequest.peer`. Servers leave it empty for a Unix socket, or out."""
        return self._environ.get("REMOTE_ADDR") or None

    @property
    def user(self) -> str | None:
        """The user that the server has authenticated."""
        return self._environ.get("REMOTE_USER") or None

    def values(self, name: str) -> Sequence[str]:
        """As `WebRequest.values`. Servers join headers of one name with commas: they come as one."""
        value = self._environ.get(_WITHOUT_PREFIX.get(name) or f"HTTP_{name.upper().replace('-', '_')}")
        return () if value is None else (value,)

    def query(self, name: str) -> str | None:
        """As `WebRequest.query`."""
        found = parse_qs(self._environ.get("QUERY_STRING", ""), keep_blank_values=True).get(name)
        return found[0] if found else None


def path_within(environ: WSGIEnvironment) -> str:
    """The path as it is routed: without the part at which the app is mounted, and decoded, whatever its bytes are."""
    path: str = environ.get("PATH_INFO", "")
    if not path.isascii():
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return path or "/"


class RateLimits(AppLimits[Limiter]):
    """The rate limits of a WSGI app: see `AppLimits`."""

    kind = Limiter

    def __init__(self, *rules: str | Limit | Rule | Limiter, **options: Unpack[LimitsOptions]) -> None:
        super().__init__(*rules, **options)
        if self.on_denied is not None and is_async(self.on_denied):
            raise InvalidUse("on_denied is async, and this framework blocks: give a def")

    def peek(self, environ: WSGIEnvironment, *names: str) -> Admission:
        """Tell a caller where they stand with the rules of these names, or with all rules of the app: nothing is taken.
        Its `decision` is the tightest, and `limiter.fields(admission)` are the headers for it.

        :raises InvalidUse: if there is no rule of such a name.
        """
        return run(self.limiter.peek(WsgiRequest(environ), *names))

    def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `ip:203.0.113.7`, start afresh with the rules of these names, or with all rules of the app
        (those that count by route aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        run(self.limiter.reset(key, *names))

    def middleware(self, app: WSGIApplication) -> RateLimitMiddleware:
        """The app behind its limits."""
        return RateLimitMiddleware(app, self)

    def denial(self, admission: Admission) -> WSGIApplication:
        """The answer to a request that was refused: the user's own, if there is one and it answers."""
        own = None if self.on_denied is None else self.on_denied(admission.request.native, admission.decision)
        if own is None:
            return Denial(self.limiter.refuse(admission))
        if not callable(own):
            if inspect.iscoroutine(own):
                own.close()
            raise InvalidUse(f"on_denied returns an app of WSGI, such as a Response of Werkzeug, or None, not {own!r}")
        answer: WSGIApplication = own
        return answer


class RateLimitMiddleware:
    """Puts a WSGI app behind its limits. Safe to share between threads.

        app = RateLimitMiddleware(app, "100/minute", store="redis://localhost:6379/0")

    :param app: the app.
    :param rules: its `RateLimits`; or else the rules of one, with its options.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: as `RateLimits` does.
    """

    def __init__(
        self,
        app: WSGIApplication,
        /,
        *rules: RateLimits | str | Limit | Rule | Limiter,
        **options: Unpack[LimitsOptions],
    ) -> None:
        self._app = app
        given = [one for one in rules if isinstance(one, RateLimits)]
        if given and (len(rules) > 1 or options):
            raise InvalidUse("the middleware takes a RateLimits, or rules and options to make one, but not both")
        made = [one for one in rules if not isinstance(one, RateLimits)]
        self.limits: Final = given[0] if given else RateLimits(*made, **options)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Decide about a request, and let it through, or answer in its place."""
        exchange = exchange_of(environ)
        if exchange is None:
            return answer(self._decide, self.limits.limiter, environ, start_response)
        if exchange.admission_of(self.limits.limiter) is not None:  # it is installed twice
            return self._app(environ, start_response)
        return self._decide(environ, start_response)

    def _decide(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        limiter = self.limits.limiter
        admission = admit(limiter, WsgiRequest(environ))
        exchange: Exchange = environ[EXCHANGE]
        exchange.decided.append((limiter, admission))
        app = self._app if admission.refusal is None else self.limits.denial(admission)
        return app(environ, start_response)


class Exchange:
    """A request, its decisions and its response. Used by one thread at a time."""

    asked: Sequence[Rule] = ()
    """The rules of routes that were asked, as the routes were given them."""
    status: int | None = None
    """The status of the response; None until it begins."""
    headers: Sequence[tuple[str, str]] = ()
    """The headers of the response."""
    has_sent = False
    """Has a part of the body been handed on, and with it the status?"""
    is_whole = False
    """Is the body known to be there as a whole?"""
    is_bare = False
    """Does nobody see the response?"""
    is_ended = False

    def __init__(self, limiter: WebLimiter[Any]) -> None:
        self.limiter = limiter
        """Renders the headers."""
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

    def fields(self) -> list[tuple[str, str]]:
        """The header fields of all decisions."""
        decided = self.decided
        if not decided:
            return []
        told = decided[0][1] if len(decided) == 1 else together([admission for _, admission in decided])
        return self.limiter.fields(told)

    @property
    def is_unfinished(self) -> bool:
        """Is something to be settled or released?"""
        for _, admission in self.decided:
            if admission.slots:
                return True
            for part, _ in admission.verdicts:
                if part.is_settled:
                    return True
        return False

    def begin(self, status: str, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Begin the response: the app's headers and those of the decisions. The app's own stay as they are."""
        self.status = int(status[:3])
        told = list(headers)
        fields = self.fields()
        if self.decided and self.decided[-1][1].refusal is not None:
            fields.append(("Cache-Control", "no-store"))
        if fields:
            names = {name.lower() for name, _ in told}
            told += [field for field in fields if field[0].lower() not in names]
        self.headers = told
        return told

    def fail(self) -> None:
        """The app has raised: unless the client has something already, the server answers with 500."""
        if not self.has_sent:
            self.status = 500

    def end(self) -> None:
        """Settle and release what the request took, once, whatever fails of it."""
        if self.is_ended:
            return
        self.is_ended = True
        # The environment has the exchange, and the request the environment: without them, both go at once.
        decided, self.decided = self.decided, []
        failure: Exception | None = None
        for limiter, admission in decided:
            if admission.is_unfinished:
                response = None
                if self.status is not None:
                    response = WebResponse(self.status, dict(self.headers), admission.request.native)
                try:
                    run(limiter.finish(admission, response))
                except Exception as error:
                    failure = failure or error
        if failure is not None:
            raise failure


def exchange_of(environ: WSGIEnvironment) -> Exchange | None:
    """The exchange of a request that is under way."""
    found: Exchange | None = environ.get(EXCHANGE)
    return None if found is None or found.is_ended else found


def answer(
    app: WSGIApplication, limiter: WebLimiter[Any], environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Hand a request on as an exchange, and see to it that its response has the headers, and that it comes to an end.

    A response is handed on as it comes: nothing is read ahead, and unless it is a stream with something to be done at
    its end, the server gets the very object that the app returned. One that is whole is settled before it is sent:
    clients come back as soon as they have it.
    """
    exchange = environ[EXCHANGE] = Exchange(limiter)

    def starting(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        told = exchange.begin(status, headers)
        write = start_response(status, told) if exc_info is None else start_response(status, told, exc_info)
        if not exchange.is_unfinished:
            return write

        def writing(data: bytes) -> object:
            exchange.has_sent = exchange.has_sent or bool(data)
            return write(data)

        return writing

    try:
        body = app(environ, starting)
    except BaseException as error:
        if isinstance(error, Exception):
            exchange.fail()
        exchange.end()
        raise
    if exchange.status is not None and (
        exchange.is_whole or isinstance(body, (list, tuple)) or not exchange.is_unfinished
    ):
        try:
            exchange.end()
        except BaseException:
            close(body)
            raise
        return body
    return Body(body, exchange)


class Body:
    """The body of a response, with whose end its exchange ends."""

    __slots__ = ("_body", "_exchange", "_next")

    def __init__(self, body: Iterable[bytes], exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange
        self._next: Callable[[], bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        try:
            if self._next is None:
                self._next = iter(self._body).__next__
            data = self._next()
        except StopIteration:
            exchange.end()  # now, since the client may come back as soon as it has the last of it
            raise
        except Exception:
            exchange.fail()
            raise
        if data:
            exchange.has_sent = True
        return data

    def close(self) -> None:
        """The server calls this when all is sent, and when the client has gone."""
        try:
            close(self._body)
        finally:
            self._exchange.end()


def close(body: Any) -> None:
    """Close the body of a response, if that wants to be."""
    closes = getattr(body, "close", None)
    if closes is not None:
        closes()


class Denial:
    """The answer to a request that is refused: an app of WSGI."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer."""
        status, headers, body = self._answer
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers))
        return [body] if body else []

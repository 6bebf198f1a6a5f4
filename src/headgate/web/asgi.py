"""ASGI: rate limits as a middleware of no framework. This module must not know one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import parse_qs, unquote

from headgate.errors import InvalidUse
from headgate.limiter.limiters import AsyncLimiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web.admission import Admission
from headgate.web.asking import admit_async
from headgate.web.audit import log_routes
from headgate.web.core import run_async
from headgate.web.exchange import EXCHANGE, AnyApp, App, Denial, Exchange, Message, Receive, Scope, Send
from headgate.web.limits import AppLimits, installed

_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)


class AsgiRequest:
    """A request of ASGI, as rules and identities see it."""

    __slots__ = ("_native", "_native_of", "_scope", "method", "path", "route")

    def __init__(self, scope: Scope, native_of: Callable[[Scope], Any]) -> None:
        """:param native_of: makes the framework's request, when somebody asks for it."""
        self._scope = scope
        self._native_of = native_of
        self._native: Any = None
        self.method: str = scope.get("method", "GET").upper()  # a websocket is opened by a GET
        self.path = path_within(scope)
        self.route: str | None = None

    @property
    def native(self) -> Any:
        """As `WebRequest.native`."""
        if self._native is None:
            self._native = self._native_of(self._scope)
        return self._native

    @property
    def peer(self) -> str | None:
        """As `WebRequest.peer`."""
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def user(self) -> str | None:
        """The user that an authentication of the server's kind has put into the scope."""
        user = self._scope.get("user")
        if user is None or not getattr(user, "is_authenticated", False):
            return None
        try:
            return str(user.identity)
        except (AttributeError, NotImplementedError):  # Starlette's SimpleUser has a name alone
            return str(user.display_name)

    def values(self, name: str) -> Sequence[str]:
        """As `WebRequest.values`."""
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for known, value in self._scope["headers"] if known.lower() == wanted]

    def query(self, name: str) -> str | None:
        """As `WebRequest.query`."""
        found = parse_qs(self._scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True).get(name)
        return found[0] if found else None


def path_within(scope: Scope) -> str:
    """The path as it is routed: without the part at which the app is mounted. Encoded slashes stay so, as `%2F`: some
    apps, such as those of Sanic, route by the raw path.
    """
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw and (b"%2F" in raw or b"%2f" in raw):
        path = _with_encoded_slashes(path, raw)
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    rest = path[len(root) :]
    return rest if not rest or rest[0] == "/" else path


def _with_encoded_slashes(path: str, raw: bytes) -> str:
    text = raw.partition(b"?")[0].decode("latin-1")
    kept = unquote(_ENCODED_SLASH.sub("%252F", text))
    decoded = unquote(text)
    return (
        path[: len(path) - len(decoded)] + kept if path.endswith(decoded) else path
    )  # some servers leave the root out


class FoundRoute(NamedTuple):
    """The route that a request is going to take."""

    name: str
    has_own: bool
    """Has it rules of its own?"""
    is_exempt: bool
    """Is it to meet none?"""


class RateLimits(AppLimits[AsyncLimiter]):
    """The rate limits of an ASGI app: see `AppLimits`."""

    kind = AsyncLimiter
    lists_routes: ClassVar[bool] = False
    """Does an app of the framework say which routes it has?"""
    has_own_routes = False
    """Has a route been given rules of its own, or been exempted?"""

    def middleware(self, app: AnyApp) -> App:
        """The app behind its limits."""
        return RateLimitMiddleware(app, self)

    def native_of(self, scope: Scope) -> Any:
        """The request that the functions of users are called with: the scope, where there is no framework."""
        return scope

    def find_route(self, scope: Scope, app: Any) -> FoundRoute | None:
        """The route that a request is going to take; None where it is not known: then it meets all rules.

        :param app: the framework's app; None if that is not known.
        """
        return None

    def decide(self, scope: Scope, app: Any = None) -> Awaitable[Admission]:
        """Ask the app's rules about a request.

        :param app: the framework's app, where the scope does not say it.
        """
        request, limiter = AsgiRequest(scope, self.native_of), self.limiter
        has_own = is_exempt = False
        if self.has_own_routes or limiter.plain.asks_by_route:
            found = self.find_route(scope, scope.get("app", app))
            if found is not None:
                request.route, has_own, is_exempt = found
        return admit_async(limiter, request, has_own=has_own, is_exempt=is_exempt)

    async def denial(self, admission: Admission) -> App:
        """The answer to a request that was refused: the user's own, if there is one and it answers."""
        answer = self.limiter.refuse(admission)
        if self.on_denied is None:
            return Denial(answer)
        own = self.on_denied(admission.request.native, admission.decision)
        if inspect.isawaitable(own):
            own = await own
        return Denial(answer, None if own is None else self.app_of(own, admission.request.native))

    def app_of(self, response: Any, request: Any) -> App:
        """A response that `on_denied` has returned, as an app.

        :raises InvalidUse: if it is none.
        """
        if not callable(response):
            raise InvalidUse(f"on_denied returns an app of ASGI, such as a Response, or None, not {response!r}")
        app: App = response
        return app

    async def peek(self, scope: Scope, *names: str) -> Admission:
        """Tell a caller where they stand with the rules of these names, or with all rules of the app: nothing is taken.
        Its `decision` is the tightest, and `limiter.fields(admission)` are the headers for it.

        :raises InvalidUse: if there is no rule of such a name.
        """
        return await run_async(self.limiter.peek(AsgiRequest(scope, self.native_of), *names))

    async def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `ip:203.0.113.7`, start afresh with the rules of these names, or with all rules of the app
        (those that count by route aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        await run_async(self.limiter.reset(key, *names))


class RateLimitMiddleware:
    """Puts an ASGI app behind its limits.

        app = RateLimitMiddleware(app, "100/minute", store="redis://localhost:6379/0")

    :param app: the app.
    :param rules: its `RateLimits`; or else the rules of one, with its options.
    :raises LimitError, StoreURLError, InvalidUse, MissingExtra: as `RateLimits` does.
    """

    limits_class: ClassVar[type[RateLimits]] = RateLimits
    """The limits that are made of rules."""

    def __init__(self, app: AnyApp, /, *rules: RateLimits | str | Limit | Rule | AsyncLimiter, **options: Any) -> None:
        self._app: Final[App] = app
        self._routed = app if hasattr(app, "routes") else None
        """The framework's app, where this stands outside of it."""
        given = [one for one in rules if isinstance(one, RateLimits)]
        if given and (len(rules) > 1 or options):
            raise InvalidUse("the middleware takes a RateLimits, or rules and options to make one, but not both")
        made = [one for one in rules if not isinstance(one, RateLimits)]
        self.limits: Final = given[0] if given else self.limits_class(*made, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide about a request, and let it through, or answer in its place."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, self._starting(scope, send) if kind == "lifespan" else send)
            return
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None:  # somebody further out ends it
            limits = self.limits
            if exchange.decided and exchange.admission_of(limits.limiter) is not None:  # it is installed twice
                await self._app(scope, receive, send)
                return
            admission = await limits.decide(scope, self._routed)
            exchange.decided.append((limits.limiter, admission))
            app = self._app if admission.refusal is None else await limits.denial(admission)
            await app(scope, receive, send)
        else:
            await ending(self, self.limits, scope, receive, send)

    def _starting(self, scope: Scope, send: Send) -> Send:
        """As `send`; when the app has started, its routes without a limit are logged."""
        app = scope.get("app", self._routed)
        if app is None or not self.limits.lists_routes:
            return send
        installed.setdefault(app, self.limits)

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                log_routes(app)
            await send(message)

        return sending


class Outermost:
    """Ends the exchanges of an app, outside all that may answer in its place, such as the handler of its errors."""

    def __init__(self, app: App, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand a request on, and see to its response."""
        if scope["type"] not in ("http", "websocket") or EXCHANGE in scope:
            return self._app(scope, receive, send)
        return ending(self._app, self._limits, scope, receive, send)


async def ending(
    app: App, limits: RateLimits, scope: Scope, receive: Receive, send: Send, exchange: Exchange | None = None
) -> None:
    """Hand a request on as an exchange, and bring that to its end.

    :param exchange: that of a framework, if it has its own.
    """
    if exchange is None:
        exchange = Exchange(limits.limiter, scope, send)
    scope[EXCHANGE] = exchange
    try:
        await app(scope, receive, exchange.send)
    except BaseException as error:
        if exchange.is_unfinished:
            await exchange.end(error)
        raise
    else:
        if exchange.is_unfinished:
            await exchange.end(None)
        if exchange.failure is not None:
            raise exchange.failure
    finally:
        # The exchange has requests, which have the scope; and the server's `send`, which mostly has it as well. All of
        # that would stay until the garbage collector comes by.
        exchange.decided = []
        scope.pop(EXCHANGE, None)

"""Litestar: rate limits as a plugin, and as a decorator of route handlers, controllers and routers.

limits = RateLimits("100/minute", store="redis://localhost:6379/0")

@limits.limit("5/minute")
@post("/login")
async def login() -> str: ...

app = Litestar([login], plugins=[limits])

A middleware of the app, inside those that it has, asks about the requests of all routes. Around the whole app stands
another part, which adds the headers to whatever is answered, and asks about requests that no route takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, Unpack

try:
    from litestar import Controller, Litestar, Response, Router
    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler
    from litestar.plugins import InitPlugin
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("litestar", "litestar") from error

from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.limiter.limiters import AsyncLimiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web import asgi
from headgate.web.admission import Admission
from headgate.web.asgi import AsgiRequest, ending
from headgate.web.asking import admit_async
from headgate.web.audit import log_routes
from headgate.web.exchange import EXCHANGE, App, Exchange, Message, Receive, Scope, Send
from headgate.web.limits import RouteEntry
from headgate.web.names import named
from headgate.web.options import LimitsOptions, RuleOptions

T = TypeVar("T")

MOUNT: Final = "headgate.mount"
"""Where a scope keeps the path at which the app is mounted that a request has come to."""
_numbers: Final = itertools.count(1)


class Mark:
    """A value among the options of a handler, or of what it is in: a rule of its own, or that it is to meet none."""

    __slots__ = ("limits", "rule")

    def __init__(self, limits: RateLimits, rule: Rule | None) -> None:
        """:param rule: None for an exemption."""
        self.limits = limits
        self.rule = rule

    def __deepcopy__(self, memo: Any) -> Mark:
        """Itself: the rule is the same one in all copies of a handler."""
        return self


class Taken(NamedTuple):
    """The route that a request has taken."""

    name: str
    rules: tuple[Rule, ...]
    """Those of its own."""
    is_exempt: bool
    mount: str
    """Where an app is mounted by it; empty if none is."""


class LitestarRequest(AsgiRequest):
    """A request of Litestar, as rules and identities see it."""

    __slots__ = ()

    @property
    def user(self) -> str | None:
        """The user that an authentication of the app has found: a text or number, or an object with an `id`."""
        user = self._scope.get("user")
        if user is None or isinstance(user, (str, int)):
            return None if user is None else str(user)
        found = getattr(user, "id", None)
        return None if found is None else str(found)


class RateLimits(asgi.RateLimits, InitPlugin):
    """The rate limits of an app of Litestar, a plugin of it: see `AppLimits`."""

    lists_routes = True

    def __init__(self, *rules: str | Limit | Rule | AsyncLimiter, **options: Unpack[LimitsOptions]) -> None:
        super().__init__(*rules, **options)
        self._known: dict[tuple[Any, ...], Taken] = {}

    def __deepcopy__(self, memo: Any) -> RateLimits:
        """Itself: Litestar copies handlers, and these know the limits that they go by."""
        return self

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Put an app behind its limits, inside all middlewares that the app has by now: so users are known."""

        def limited(app: Any) -> Any:
            return RouteMiddleware(app, self)

        app_config.middleware = [*app_config.middleware, limited]
        app_config.on_startup = [self._start, *app_config.on_startup]
        return app_config

    def limit(self, limit: Any, /, **options: Unpack[RuleOptions]) -> Callable[[T], T]:
        """A decorator of route handlers, above `@get(...)` and the like, of classes of controllers, and of routers: a
        route meets the rules of all that it is in, and not the defaults.

        :param limit: as text or object, several, several with names; or a rule or limiter that is there already.
        :raises LimitError, InvalidUse: if the limit is not understood, blocks, or an option does not fit.
        """
        rule = self.own_rule(limit, dict(options))

        def decorate(handler: T) -> T:
            self._mark(handler, rule)
            return handler

        return decorate

    def exempt(self, handler: T) -> T:
        """A decorator of handlers, controllers and routers that meet no rule."""
        self._mark(handler, None)
        return handler

    def decision_of(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Decision | None:
        """The decision on a request that binds: the one that denied, or is nearest to denying; None if no rule was
        asked.
        """
        exchange: Exchange | None = connection.scope.get(EXCHANGE)  # type: ignore[assignment]  # a key of ours
        return None if exchange is None else exchange.decision_of(self.limiter)

    def native_of(self, scope: Any) -> Any:
        """A request of Litestar."""
        return scope["litestar_app"].request_class(scope) if scope["type"] == "http" else ASGIConnection(scope)

    def app_of(self, response: Any, request: Any) -> App:
        """As the base's; a `Response` of Litestar is one as well."""
        if isinstance(response, Response):
            response = response.to_asgi_response(None, request)
        return super().app_of(response, request)

    def decide(self, scope: Scope, app: Any = None, known: Admission | None = None) -> Awaitable[Admission]:
        """Ask the app's rules about a request, and those of its route.

        :param known: what was decided before: then it is about the rules of the route alone.
        """
        request = LitestarRequest(scope, self.native_of)
        handler = scope.get("route_handler")
        if handler is None:  # no route takes it
            return admit_async(self.limiter, request)
        name, rules, is_exempt, mount = self._taken(handler, scope)
        request.path = mount + scope["path"] if mount else scope["path"]  # the router has left out where it is mounted
        if rules or self.limiter.plain.asks_by_route:
            request.route = name
        if mount:
            scope[MOUNT] = scope.get(MOUNT, "") + mount
        return admit_async(self.limiter, request, rules, is_exempt=is_exempt, known=known)

    def surround(self, app: Any) -> None:
        """Put the part that ends exchanges around an app, unless it has it."""
        if not isinstance(app.asgi_handler, Outermost):
            app.asgi_handler = Outermost(app.asgi_handler, self)

    def routes(self, app: Litestar) -> Iterable[RouteEntry]:
        """The routes of an app, with the rules that each meets; without those that Litestar adds for OPTIONS."""
        for route in app.routes:
            handlers: Any = getattr(route, "route_handlers", None) or [route.route_handler]  # type: ignore[union-attr]
            for handler in handlers:
                methods = methods_of(handler)
                if methods == ("OPTIONS",) and not handler.resolve_include_in_schema():
                    continue
                rules, is_exempt = self._marks_of(handler)
                is_exempt = is_exempt or self.rules.is_exempt(route.path_format)
                met: dict[Rule, None] = {}
                for method in methods or ("GET",):
                    own = [rule for rule in rules if rule.meets((method,))]
                    met.update(dict.fromkeys(self.rules.of(route.path_format, [method], has_own=bool(own))))
                    met.update(dict.fromkeys(own))
                is_mount = getattr(handler, "is_mount", False)
                path = f"{route.path_format.rstrip('/')}/*" if is_mount else route.path_format
                yield RouteEntry(path, methods, handler.handler_name, () if is_exempt else tuple(met), is_exempt)

    def _start(self, app: Litestar) -> None:
        self.surround(app)
        log_routes(app)

    def _mark(self, handler: Any, rule: Rule | None) -> None:
        is_controller = isinstance(handler, type) and issubclass(handler, Controller)
        if not is_controller and not isinstance(handler, (BaseRouteHandler, Router)):
            raise InvalidUse(
                f"{handler!r} is no route handler, controller or router: limits go above @get(...) and the like"
            )
        opt, guards = handler.opt if _has(handler, "opt") else {}, handler.guards if _has(handler, "guards") else ()
        handler.opt = {**(opt or {}), f"headgate.{next(_numbers)}": Mark(self, rule)}
        handler.guards = [*(guards or ()), self._check_installed]

    def _check_installed(self, connection: Any, _: Any) -> None:
        exchange: Exchange | None = connection.scope.get(EXCHANGE)
        if exchange is None or exchange.admission_of(self.limiter) is None:
            raise InvalidUse("a route has limits that its app has not: Litestar(..., plugins=[limits])")

    def _marks_of(self, handler: Any) -> tuple[tuple[Rule, ...], bool]:
        marks = [one for one in handler.opt.values() if isinstance(one, Mark) and one.limits is self]
        return tuple([one.rule for one in marks if one.rule is not None]), any(one.rule is None for one in marks)

    def _taken(self, handler: Any, scope: Scope) -> Taken:
        place = handler, scope["path_template"], scope.get(MOUNT)
        taken = self._known.get(place)
        if taken is None:
            rules, is_exempt = self._marks_of(handler)
            template, mount = scope["path_template"], ""
            if getattr(handler, "is_mount", False):
                routes = [one for one in scope["litestar_app"].routes if getattr(one, "route_handler", None) is handler]
                mount = routes[0].path.rstrip("/")
                template = f"{mount}/*"
            name = named(methods_of(handler), scope.get(MOUNT, "") + template)
            taken = self._known[place] = Taken(name, rules, is_exempt, mount)
        return taken


class RouteMiddleware:
    """Asks about a request of a route, and lets it through, or answers in its place."""

    def __init__(self, app: App, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an app of ASGI is called."""
        limits = self._limits
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is None:  # the app was not told that it starts
            limits.surround(scope["litestar_app"])
            await ending(self, limits, scope, receive, send)
            return
        known = exchange.admission_of(limits.limiter) if exchange.decided else None
        admission = await limits.decide(scope, known=known)
        if known is None:
            exchange.decided.append((limits.limiter, admission))
        app = self._app if admission.refusal is None else await limits.denial(admission)
        await app(scope, receive, send)


class Outermost:
    """Ends the exchanges of an app, outside all that may answer in its place; and asks about requests that no route
    takes, when they are answered.
    """

    def __init__(self, app: App, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """As an app of ASGI is called."""
        if EXCHANGE in scope:  # of an app within an app
            return self._app(scope, receive, send)
        limits = self._limits
        return ending(self._app, limits, scope, receive, send, AppExchange(limits, scope, receive, send))


class AppExchange(Exchange):
    """As the base, of a request that perhaps no route takes: then it is asked about when it is answered."""

    is_refused = False
    """Has the answer been replaced by a refusal?"""

    def __init__(self, limits: RateLimits, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(limits.limiter, scope, send)
        self._limits = limits
        self._scope = scope
        self._receive = receive

    def send(self, message: Message) -> Awaitable[None]:
        """As the base's."""
        if self.decided:
            return _nothing() if self.is_refused else super().send(message)
        if self.status is None and "route_handler" not in self._scope:
            return self._ask(message)
        return super().send(message)

    async def _ask(self, message: Message) -> None:
        admission = await self._limits.decide(self._scope)
        self.decided.append((self.limiter, admission))
        if admission.refusal is None:
            await super().send(message)
        else:
            self.is_refused = True
            await (await self._limits.denial(admission))(self._scope, self._receive, super().send)


async def _nothing() -> None:
    """In place of the rest of an answer that is not given."""


def methods_of(handler: Any) -> tuple[str, ...]:
    """The methods of a handler in alphabetical order, without HEAD where there is GET; none for others than of HTTP."""
    methods = {str(getattr(one, "value", one)) for one in getattr(handler, "http_methods", ())}
    return tuple(sorted(methods - {"HEAD"} if "GET" in methods else methods))


def _has(handler: Any, name: str) -> bool:
    """Has somebody set an attribute? A class of controllers has descriptors in place of those that are not set."""
    return isinstance(getattr(handler, name, None), (Mapping, list, tuple))

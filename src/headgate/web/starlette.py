"""Starlette: rate limits as a middleware, and as a decorator of endpoints.

limits = RateLimits("100/minute", store="redis://localhost:6379/0", app=app)

@limits.limit("5/minute")
async def login(request): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("starlette", "starlette") from error

from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import AsyncLimiter
from headgate.limits import Concurrency, Limit
from headgate.rules import Rule
from headgate.rules.rule import LimitLike
from headgate.web import asgi
from headgate.web.admission import Admission
from headgate.web.asgi import AsgiRequest, FoundRoute, Outermost
from headgate.web.asking import admit_async
from headgate.web.exchange import EXCHANGE, App, Exchange, Receive, Scope, Send
from headgate.web.limits import RouteEntry, installed
from headgate.web.names import name_of
from headgate.web.options import LimitsOptions, RuleOptions
from headgate.web.parts import MAX_KNOWN
from headgate.web.placing import placed_late, rule_of_method
from headgate.web.starlette_routes import Route, answering, calls_of, every, find, name_in, taken_in

F = TypeVar("F", bound=Callable[..., Any])
OwnLimit = LimitLike | Sequence[LimitLike] | Mapping[str, LimitLike] | Rule | AsyncLimiter
"""The limit of a route: as text or object, several, several with names; or a rule or limiter that is there already."""

RULES: Final = "__headgate_rules__"
"""Where functions have the rules that they were given, each beside the limits that it goes by."""
EXEMPT: Final = "__headgate_exempt__"
"""Where functions have the limits that they are exempted from."""


class RateLimitExceeded(HTTPException):
    """A request was refused by the rules of its route. A handler of it, or of its status, may answer as it likes; by
    default, the answer is the middleware's. `decision` is the one that denied; None where no limit was asked.
    """

    def __init__(self, admission: Admission, status: int, headers: dict[str, str], answer: App) -> None:
        super().__init__(status, "Too many requests", headers)
        self.decision: Final[Decision | None] = admission.decision
        self.answer: Final = answer


class StarletteLimits(asgi.RateLimits):
    """All that the limits of Starlette and those of FastAPI have in common."""

    lists_routes = True

    def __init__(
        self,
        *rules: str | Limit | Rule | AsyncLimiter,
        app: Starlette | None = None,
        **options: Unpack[LimitsOptions],
    ) -> None:
        super().__init__(*rules, **options)
        self._own: dict[tuple[int, int, str], tuple[tuple[Rule, ...], Any]] = {}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Starlette) -> None:
        """Put an app behind its limits, inside all other middlewares of the app, in whatever order they are added: so
        a refusal has the headers of CORS, and users are known.

        :raises InvalidUse: if the app has started, or has limits.
        """
        if app in installed:
            raise InvalidUse("this app has rate limits: give its one RateLimits all rules")
        if app.middleware_stack is not None:
            raise InvalidUse("the app has started: install its rate limits before")
        build = app.build_middleware_stack

        def limited(app: App) -> App:  # of older versions, a middleware that takes more than its app takes no rules
            return RateLimitMiddleware(app, self)

        def build_with_limits() -> App:
            return Outermost(build(), self)

        app.user_middleware.append(Middleware(limited))
        app.build_middleware_stack = build_with_limits  # type: ignore[method-assign]  # of this app alone
        installed[app] = self

    def native_of(self, scope: Scope) -> HTTPConnection:
        """A request of Starlette."""
        return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)

    def exempt(self, endpoint: F) -> F:
        """A decorator of endpoints that meet no rule."""
        self.has_own_routes = True
        setattr(endpoint, EXEMPT, (*getattr(endpoint, EXEMPT, ()), self))
        return endpoint

    def find_route(self, scope: Scope, app: Any) -> FoundRoute | None:
        """As the base's, by the routes of the app."""
        found = None if app is None else find(app.routes, scope)
        if found is None:
            return None
        method = scope.get("method", "GET")
        has_own = any(rule.meets((method,)) for rule in self.own_rules(found.endpoint, found.dependant, method))
        return FoundRoute(found.name, has_own, self._is_exempt(found, method))

    def own_rules(self, endpoint: Any, dependant: Any, method: str) -> Iterator[Rule]:
        """The rules that a route has for itself."""
        for function in answering(endpoint, method):
            name = "" if function is endpoint else name_of_method(function)
            for limits, rule in getattr(function, RULES, ()):
                if limits is self:
                    yield rule_of_method(rule, name) if name else rule
        for call in calls_of(dependant):
            for limits, rule in getattr(call, RULES, ()):
                if limits is self:
                    yield rule

    def routes(self, app: Any) -> Iterable[RouteEntry]:
        """The routes of an app, with the rules that each meets."""
        for route in every(app.routes):
            methods = route.methods or _methods_of_class(route.endpoint)
            own: dict[Rule, None] = {}
            of_app: dict[Rule, None] = {}
            for method in methods or ("GET",):
                mine = [
                    rule for rule in self.own_rules(route.endpoint, route.dependant, method) if rule.meets((method,))
                ]
                own.update(dict.fromkeys(mine))
                of_app.update(dict.fromkeys(self.rules.of(route.path, [method], has_own=bool(mine))))
            is_exempt = self._is_exempt(route, "GET") or self.rules.is_exempt(route.path)
            met = () if is_exempt else tuple({**of_app, **own})
            yield RouteEntry(route.path, methods, name_of(route.endpoint), met, is_exempt)

    async def admit_own(self, connection: HTTPConnection, rule: Rule) -> tuple[Admission, bool]:
        """Ask a rule of a route, and those of its app if nobody has. With it goes: is there no middleware?

        :raises InvalidUse: if a rule has to know how the request ends, and there is no middleware to tell.
        """
        scope = connection.scope
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is None:
            exchange = scope[EXCHANGE] = Exchange(self.limiter, scope, None)
        if exchange.is_bare:
            for one in (*self.rules.all, rule):
                if one.charge_when or one.actual_cost or _holds_slots(one):
                    raise InvalidUse(
                        f"rule {one.title!r} has to know how a request ends: install the middleware, init_app(app)"
                    )
        request = AsgiRequest(scope, lambda _: connection)
        request.route = name_in(scope, exchange.app, exchange.root_path)
        known = exchange.admission_of(self.limiter)
        asked = placed_late(rule, self._own_of(scope), exchange.late)
        admission = await admit_async(self.limiter, request, (asked,), known=known)
        if known is None:
            exchange.decided.append((self.limiter, admission))
        return admission, exchange.is_bare

    def _own_of(self, scope: Scope) -> tuple[Rule, ...]:
        """All rules that the route has for itself that a request has taken."""
        dependant, endpoint = getattr(taken_in(scope), "dependant", None), scope.get("endpoint")
        place = id(endpoint), id(dependant), scope.get("method", "GET")
        known = self._own.get(place)
        if known is None:
            if len(self._own) >= MAX_KNOWN:
                self._own = {}
            own = tuple(self.own_rules(endpoint, dependant, place[2]))
            known = self._own[place] = own, (endpoint, dependant)  # they stay: so nothing else gets their ids
        return known[0]

    def decision_of(self, connection: HTTPConnection) -> Decision | None:
        """The decision on a request that binds: the one that denied, or is nearest to denying."""
        exchange: Exchange | None = connection.scope.get(EXCHANGE)
        return None if exchange is None else exchange.decision_of(self.limiter)

    def _is_exempt(self, route: Route, method: str) -> bool:
        return any(self in getattr(function, EXEMPT, ()) for function in answering(route.endpoint, method))


class RateLimits(StarletteLimits):
    """The rate limits of an app of Starlette: see `AppLimits`.

    :param app: the app to be put behind them; see `init_app`.
    """

    def limit(self, limit: OwnLimit, /, **options: Unpack[RuleOptions]) -> Callable[[F], F]:
        """A decorator of endpoints, async or not, of their classes and methods, and of those of websockets: these have
        rules of their own, in place of the defaults.

        :raises LimitError, InvalidUse: if the limit is not understood, blocks, or an option does not fit.
        """
        rule = self.own_rule(limit, dict(options))
        self.has_own_routes = True

        def decorate(endpoint: F) -> F:
            limited: Any
            if isinstance(endpoint, type):
                if not issubclass(endpoint, (HTTPEndpoint, WebSocketEndpoint)):
                    raise InvalidUse(f"{endpoint.__qualname__} is no HTTPEndpoint and no WebSocketEndpoint")
                limited = endpoint
                setattr(limited, "dispatch", self._dispatching(endpoint, rule))  # noqa: B010 - for mypy it is no class
            else:
                limited = self._limited(endpoint, rule)
            setattr(limited, RULES, (*getattr(endpoint, RULES, ()), (self, rule)))
            return limited  # type: ignore[no-any-return]  # it is called as before

        return decorate

    def decision(self, connection: HTTPConnection) -> Decision | None:
        """The decision on a request that binds: the one that denied, or is nearest to denying; None if no rule was
        asked.
        """
        return self.decision_of(connection)

    def _limited(self, endpoint: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
        is_coroutine = is_async(endpoint)

        @functools.wraps(endpoint)
        async def limited(*args: Any, **options: Any) -> Any:
            connection = next((one for one in (*args, *options.values()) if isinstance(one, HTTPConnection)), None)
            if connection is None:
                raise InvalidUse(f"{endpoint.__qualname__} was called without a request: its limit asks about one")
            if args and isinstance(args[0], WebSocketEndpoint):
                raise InvalidUse(f"{endpoint.__qualname__}: a websocket meets its limits once, so limit its class")
            is_method = bool(args) and isinstance(args[0], HTTPEndpoint)
            asked = rule_of_method(rule, name_of_method(endpoint)) if is_method else rule
            admission, is_bare = await self.admit_own(connection, asked)
            if not admission.is_admitted:
                answer = await self.denial(admission)
                if not isinstance(connection, WebSocket):
                    return answer
                await answer(connection.scope, connection.receive, connection.send)
                return None
            response = await (
                endpoint(*args, **options) if is_coroutine else run_in_threadpool(endpoint, *args, **options)
            )
            if is_bare and isinstance(response, Response):
                for name, value in self.limiter.fields(admission):
                    response.headers.setdefault(name, value)
            return response

        return limited

    def _dispatching(self, endpoint: Any, rule: Rule) -> Callable[[Any], Any]:
        dispatch = endpoint.dispatch

        @functools.wraps(dispatch)
        async def dispatching(endpoint: Any) -> None:
            scope: Scope = endpoint.scope
            receive: Receive = endpoint.receive
            send: Send = endpoint.send
            connection = Request(scope, receive, send) if scope["type"] == "http" else HTTPConnection(scope)
            admission, _ = await self.admit_own(connection, rule)
            if admission.is_admitted:
                await dispatch(endpoint)
            else:
                await (await self.denial(admission))(scope, receive, send)

        return dispatching


class RateLimitMiddleware(asgi.RateLimitMiddleware):
    """Puts an app of Starlette behind its limits: `app.add_middleware(RateLimitMiddleware, "100/minute")`."""

    limits_class = RateLimits


def _holds_slots(rule: Rule) -> bool:
    return any(isinstance(limit, Concurrency) for limit in rule.named_limits().values())


def name_of_method(function: Any) -> str:
    """The name of a method of a class that answers."""
    name: str = getattr(function, "__name__", "")
    return name


def _methods_of_class(endpoint: Any) -> tuple[str, ...]:
    if not isinstance(endpoint, type):
        return ()
    return tuple(method for method in ("DELETE", "GET", "PATCH", "POST", "PUT") if hasattr(endpoint, method.lower()))

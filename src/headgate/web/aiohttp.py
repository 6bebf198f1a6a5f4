"""aiohttp: rate limits of an app of aiohttp.web, and as a decorator of handlers and of class-based views.

limits = RateLimits("100/minute", store="redis://localhost:6379/0", app=app)

@limits.limit("5/minute")
async def login(request): ...

The middleware asks about a request: the app's rules and those of its route at once. A signal adds the headers when a
response begins, whoever made it. What a request took is settled, and its slots are free again, before the last of its
response is sent.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, Final, TypeVar, Unpack

try:
    from aiohttp import web
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("aiohttp", "aiohttp") from error

from headgate.decision import Decision
from headgate.errors import InvalidUse
from headgate.limiter.decorator import is_async
from headgate.limiter.limiters import AsyncLimiter
from headgate.limits import Limit
from headgate.rules import Rule
from headgate.web.admission import Admission
from headgate.web.aiohttp_exchange import AiohttpRequest, RequestExchange, route_of
from headgate.web.asking import admit_async
from headgate.web.audit import log_routes
from headgate.web.core import run_async
from headgate.web.limits import AppLimits, RouteEntry, installed
from headgate.web.names import name_of
from headgate.web.options import LimitsOptions, RuleOptions
from headgate.web.placing import placed_late, rule_of_method

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RULES: Final = "__headgate_rules__"
"""Where functions and classes have the rules that they were given, each beside the limits that it goes by."""
EXEMPT: Final = "__headgate_exempt__"
"""Where they have the limits that they are exempted from."""
EXCHANGE: Final[Any] = (
    web.RequestKey("headgate.exchange", RequestExchange) if hasattr(web, "RequestKey") else "headgate.exchange"
)
"""Where a request has its exchange; before aiohttp 3.14, keys were texts."""


class RateLimits(AppLimits[AsyncLimiter]):
    """The rate limits of an app of aiohttp: see `AppLimits`.

    :param app: the app to be put behind them; see `init_app`.
    """

    kind = AsyncLimiter
    has_own_routes = False
    """Has a handler been given rules of its own, or been exempted?"""

    def __init__(
        self,
        *rules: str | Limit | Rule | AsyncLimiter,
        app: web.Application | None = None,
        **options: Unpack[LimitsOptions],
    ) -> None:
        super().__init__(*rules, **options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: web.Application) -> None:
        """Put an app behind its limits, those within it included, inside all middlewares that it has by now: so users
        are known whom one of these finds out.

        :raises InvalidUse: if the app has started or is within another one already, or has limits.
        """
        if app in installed:
            raise InvalidUse("this app has rate limits: give its one RateLimits all rules")
        if app.pre_frozen:
            raise InvalidUse("the app has started: install its rate limits before")
        app.middlewares.append(web.middleware(functools.partial(self._middleware)))
        app.on_response_prepare.append(_begin)
        app.on_startup.append(_list_routes)
        installed[app] = self

    def limit(self, limit: Any, /, **options: Unpack[RuleOptions]) -> Callable[[F], F]:
        """A decorator of handlers, of class-based views and of their methods: these have rules of their own, in place
        of the defaults.

        :param limit: as text or object, several, several with names; or a rule or limiter that is there already.
        :raises LimitError, InvalidUse: if the limit is not understood, blocks, or an option does not fit.
        """
        rule = self.own_rule(limit, dict(options))
        self.has_own_routes = True

        def decorate(handler: F) -> F:
            limited: Any
            if isinstance(handler, type):
                if not issubclass(handler, web.View):
                    raise InvalidUse(f"{handler.__qualname__} is no View")
                limited = handler
                limited.__await__ = self._awaiting(handler, rule)
            elif is_async(handler):
                limited = self._limited(handler, rule)
            else:
                raise InvalidUse(f"{name_of(handler)} is no async function: handlers of aiohttp are")
            setattr(limited, RULES, (*getattr(handler, RULES, ()), (self, rule)))
            return limited  # type: ignore[no-any-return]  # it is called as before

        return decorate

    def exempt(self, handler: F) -> F:
        """A decorator of handlers and views that meet no rule."""
        self.has_own_routes = True
        setattr(handler, EXEMPT, (*getattr(handler, EXEMPT, ()), self))
        return handler

    def decision_of(self, request: web.Request) -> Decision | None:
        """The decision on a request that binds: the one that denied, or is nearest to denying; None if no rule was
        asked.
        """
        exchange: RequestExchange | None = request.get(EXCHANGE)
        return None if exchange is None else exchange.decision_of(self.limiter)

    async def peek(self, request: web.Request, *names: str) -> Admission:
        """Tell a caller where they stand with the rules of these names, or with all rules of the app: nothing is taken.
        Its `decision` is the tightest, and `limiter.fields(admission)` are the headers for it.

        :raises InvalidUse: if there is no rule of such a name.
        """
        return await run_async(self.limiter.peek(AiohttpRequest(request, route_of(request)), *names))

    async def reset(self, key: str, *names: str) -> None:
        """Let a key, such as `ip:203.0.113.7`, start afresh with the rules of these names, or with all rules of the app
        (those that count by route aside); a penalty is lifted.

        :raises InvalidUse: if there is no rule of such a name.
        :raises StoreOutage: if the store does not answer.
        """
        await run_async(self.limiter.reset(key, *names))

    def routes(self, app: web.Application) -> Iterable[RouteEntry]:
        """The routes of an app, with the rules that each meets."""
        found: dict[tuple[str, Any], set[str]] = {}
        for route in app.router.routes():
            resource = route.resource
            if resource is not None:
                found.setdefault((resource.canonical, route.handler), set()).update(_methods_of(route))
        for (path, handler), known in found.items():
            methods = tuple(sorted(known - {"HEAD"} if "GET" in known else known))
            met: dict[Rule, None] = {}
            for method in methods or ("GET",):
                own = [rule for rule, _ in self._own_rules(handler, method) if rule.meets((method,))]
                met.update(dict.fromkeys(self.rules.of(path, [method], has_own=bool(own))))
                met.update(dict.fromkeys(own))
            is_exempt = self._is_exempt(handler, methods[0] if methods else "GET") or self.rules.is_exempt(path)
            yield RouteEntry(path, methods, name_of(handler), () if is_exempt else tuple(met), is_exempt)

    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange: RequestExchange | None = request.get(EXCHANGE)
        if exchange is None:
            exchange = request[EXCHANGE] = RequestExchange(self.limiter, request)
        elif exchange.admission_of(self.limiter) is not None:  # of an app within an app
            return await handler(request)
        own: tuple[Rule, ...] = ()
        is_exempt = False
        if self.has_own_routes:
            endpoint, method = request.match_info.handler, request.method
            for asked, given in self._own_rules(endpoint, method):
                own = (*own, asked)
                exchange.asked.append((self, given))
            is_exempt = self._is_exempt(endpoint, method)
        route = route_of(request) if own or self.limiter.plain.asks_by_route else None
        admission = await admit_async(self.limiter, AiohttpRequest(request, route), own, is_exempt=is_exempt)
        exchange.decided.append((self.limiter, admission))
        if not admission.is_admitted:
            return await self._denial(admission)
        exchange.watch(request)
        try:
            response = await handler(request)
        except BaseException as error:
            # Before the response has begun, the server answers, and the exchange ends with that.
            if exchange.is_unfinished and (exchange.status is not None or not isinstance(error, Exception)):
                await exchange.end(error)
            raise
        if isinstance(response, web.WebSocketResponse) and exchange.is_unfinished:
            await exchange.end(None)
        return response

    async def _ask_late(self, request: web.Request, rule: Rule, method: str) -> Admission:
        """Ask a rule that the middleware did not see, as another decorator hides it.

        :param method: the method of a view whose rule it is; empty for other handlers.

        :raises InvalidUse: if there is no middleware.
        """
        exchange: RequestExchange | None = request.get(EXCHANGE)
        if exchange is None:
            raise InvalidUse(f"rule {rule.title!r}: the app has no rate limits installed: init_app(app) does it")
        known = exchange.admission_of(self.limiter)
        own = [one for one, _ in self._own_rules(request.match_info.handler, request.method)]
        asked = placed_late(rule_of_method(rule, method) if method else rule, own, exchange.late)
        about = AiohttpRequest(request, route_of(request))
        admission = await admit_async(self.limiter, about, (asked,), known=known)
        exchange.asked.append((self, rule))
        if known is None:
            exchange.decided.append((self.limiter, admission))
        exchange.watch(request)
        return admission

    async def _denial(self, admission: Admission) -> web.StreamResponse:
        """The answer to a request that was refused: the user's own, if there is one and it answers."""
        if self.on_denied is not None:
            own = self.on_denied(admission.request.native, admission.decision)
            if inspect.isawaitable(own):
                own = await own
            if isinstance(own, web.StreamResponse):
                return own
            if own is not None:
                raise InvalidUse(f"on_denied returns a response of aiohttp, or None, not {own!r}")
        status, headers, body = self.limiter.refuse(admission)
        return web.Response(status=status, headers=list(headers), body=body)

    def _limited(self, handler: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
        @functools.wraps(handler)
        async def limited(*args: Any, **options: Any) -> Any:
            request = next((found for one in (*args, *options.values()) if (found := _request_in(one))), None)
            if request is None:
                raise InvalidUse(f"{name_of(handler)} was called without a request: its limit asks about one")
            exchange: RequestExchange | None = request.get(EXCHANGE)
            if exchange is None or (self, rule) not in exchange.asked:
                is_method = bool(args) and isinstance(args[0], web.View) and handler.__name__ != "__await__"
                admission = await self._ask_late(request, rule, request.method if is_method else "")
                if not admission.is_admitted:
                    return await self._denial(admission)
            return await handler(*args, **options)

        return limited

    def _awaiting(self, view: Any, rule: Rule) -> Callable[[Any], Generator[Any, None, web.StreamResponse]]:
        run = types.coroutine(view.__await__)
        limited = self._limited(run, rule)

        def awaiting(view: Any) -> Generator[Any, None, web.StreamResponse]:
            return limited(view).__await__()  # type: ignore[no-any-return]

        return awaiting

    def _own_rules(self, handler: Any, method: str) -> Iterator[tuple[Rule, Rule]]:
        """The rules that a route has for itself, each as it is asked and as it was given."""
        for limits, rule in getattr(handler, RULES, ()):
            if limits is self:
                yield rule, rule
        if isinstance(handler, type):
            for limits, rule in getattr(getattr(handler, method.lower(), None), RULES, ()):
                if limits is self:
                    yield rule_of_method(rule, method), rule

    def _is_exempt(self, handler: Any, method: str) -> bool:
        if self in getattr(handler, EXEMPT, ()):
            return True
        return isinstance(handler, type) and self in getattr(getattr(handler, method.lower(), None), EXEMPT, ())


def _methods_of(route: web.AbstractRoute) -> Iterable[str]:
    if route.method != "*":
        return (route.method,)
    if not isinstance(route.handler, type):
        return ()
    return [name for name in ("DELETE", "GET", "PATCH", "POST", "PUT") if hasattr(route.handler, name.lower())]


def _request_in(argument: Any) -> web.Request | None:
    """The request that a handler is called with, or that a view has."""
    if isinstance(argument, web.View):
        argument = argument.request
    return argument if isinstance(argument, web.Request) else None


async def _begin(request: web.Request, response: web.StreamResponse) -> None:
    exchange: RequestExchange | None = request.get(EXCHANGE)
    if exchange is not None and exchange.status is None:
        exchange.begin(response)


async def _list_routes(app: web.Application) -> None:
    log_routes(app)

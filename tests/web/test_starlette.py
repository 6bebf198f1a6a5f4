"""Starlette: endpoints of every kind have limits of their own, and routes are found as Starlette finds them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from headgate import InvalidUse, Limiter, ManualClock, MemoryStore
from headgate.rules import Rule
from headgate.web.starlette import RateLimitMiddleware, RateLimits
from tests.web.stacking import OPTIONS, PAIRS, hiding, passes


def make(*rules: Any, **options: Any) -> RateLimits:
    return RateLimits(*rules, store=MemoryStore(clock=ManualClock()), **options)


def client(app: Starlette) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def statuses(app: Starlette, *requests: str, **options: Any) -> list[int]:
    found = []
    async with client(app) as http:
        for request in requests:
            method, _, path = request.rpartition(" ")
            found.append((await http.request(method or "GET", path, **options)).status_code)
    return found


async def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("plain")


def blocking(request: Request) -> PlainTextResponse:
    return PlainTextResponse("blocking")


def app_of(limits: RateLimits, *routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=list(routes), **options)
    limits.init_app(app)
    return app


@pytest.mark.parametrize("endpoint", [plain, blocking])
async def test_a_function_has_a_limit_of_its_own(endpoint: Any) -> None:
    limits = make("1/minute")
    app = app_of(limits, Route("/own", limits.limit("2/minute")(endpoint)), Route("/other", plain))
    assert await statuses(app, "/own", "/own", "/own", "/other", "/other") == [200, 200, 429, 200, 429]


async def test_a_class_and_its_methods_have_limits() -> None:
    limits = make("1/minute")

    @limits.limit("3/minute")
    class Whole(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

    class Parts(HTTPEndpoint):
        @limits.limit("2/minute")
        def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

        async def post(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("made")

    app = app_of(limits, Route("/whole", Whole), Route("/parts", Parts))
    assert await statuses(app, *["/whole"] * 4) == [200, 200, 200, 429]
    assert await statuses(app, "/parts", "HEAD /parts", "/parts") == [200, 200, 429]
    assert await statuses(app, "POST /parts", "POST /parts") == [200, 429]


async def test_a_method_that_a_class_has_not_meets_the_default() -> None:
    limits = make("1/minute")

    class Parts(HTTPEndpoint):
        @limits.limit("5/minute")
        def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

    app = app_of(limits, Route("/parts", Parts))
    assert await statuses(app, "PUT /parts", "PUT /parts", "/parts") == [405, 429, 200]


def test_a_class_that_is_no_endpoint_is_refused() -> None:
    with pytest.raises(InvalidUse, match="no HTTPEndpoint"):
        make().limit("1/minute")(dict)


async def test_exempt_endpoints_meet_no_rule() -> None:
    limits = make(Rule("1/minute"))
    app = app_of(limits, Route("/health", limits.exempt(plain)))
    assert await statuses(app, *["/health"] * 3) == [200] * 3


@pytest.mark.parametrize("is_class", [False, True])
async def test_websockets_have_limits(*, is_class: bool) -> None:
    limits = make()

    @limits.limit("1/minute")
    async def function(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    @limits.limit("1/minute")
    class Whole(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.close()

    app = app_of(limits, WebSocketRoute("/ws", Whole if is_class else function))
    sent: list[Any] = []
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect"}] * 3)

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        scope = {"type": "websocket", "path": "/ws", "headers": [], "client": ("203.0.113.7", 1), "query_string": b""}
        await app(scope, receive, send)
    assert sent[-1]["type"] == "websocket.close"
    assert sent[-1]["code"] == 1008
    assert [message.get("code") for message in sent].count(1008) == 1


async def test_mounts_and_hosts_are_looked_into() -> None:
    limits = make("1/minute")
    own = Route("/own", limits.limit("2/minute")(plain))
    app = app_of(
        limits,
        Mount("/a", routes=[Mount("/b", routes=[own])]),
        Host("api.test", Mount("/c", routes=[own]), name="api"),
        Mount("/opaque", app=PlainTextResponse("opaque")),
    )
    assert await statuses(app, *["/a/b/own"] * 3) == [200, 200, 429]
    assert await statuses(app, "/opaque/x", "/opaque/y") == [200, 429]


async def test_the_parameters_of_a_mount_give_nobody_another_share() -> None:
    limits = make()
    own = Route("/{id}", limits.limit("2/minute")(plain))
    app = app_of(limits, Mount("/of/{id}", routes=[own]))
    assert await statuses(app, "/of/1/1", "/of/2/1", "/of/3/1") == [200, 200, 429]


async def test_handlers_of_one_name_in_two_places_have_a_share_each() -> None:
    limits = make()

    def handler() -> Any:
        @limits.limit("1/minute")
        async def index(request: Request) -> PlainTextResponse:
            return PlainTextResponse("index")

        return index

    app = app_of(limits, Route("/a", handler()), Route("/b", handler()), Mount("/m", routes=[Route("/a", handler())]))
    assert await statuses(app, "/a", "/b", "/m/a", "/a", "/b", "/m/a") == [200, 200, 200, 429, 429, 429]


async def test_several_limits_of_one_endpoint_all_count() -> None:
    limits = make()
    endpoint = limits.limit("5/minute")(limits.limit("2/second")(plain))
    app = app_of(limits, Route("/", endpoint))
    assert await statuses(app, "/", "/", "/") == [200, 200, 429]
    (entry,) = limits.routes(app)
    assert [rule.title for rule in entry.rules] == ["2/second", "5/minute"]


async def test_a_limit_of_an_endpoint_works_without_the_middleware() -> None:
    limits = make()
    app = Starlette(routes=[Route("/", limits.limit("1/minute")(plain))])
    async with client(app) as http:
        first, second = await http.get("/"), await http.get("/")
    assert (first.status_code, second.status_code) == (200, 429)
    assert "ratelimit" in first.headers
    assert second.headers["retry-after"] == "60"


async def test_a_stream_and_an_error_have_headers() -> None:
    limits = make("9/minute")

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    async def broken(request: Request) -> PlainTextResponse:
        raise LookupError

    app = app_of(limits, Route("/stream", stream), Route("/broken", broken))
    async with client(app) as http:
        for path in ("/stream", "/broken", "/none"):
            assert len((await http.get(path)).headers.get_list("ratelimit")) == 1


async def test_the_decision_is_at_hand() -> None:
    limits = make("5/minute")

    async def left(request: Request) -> PlainTextResponse:
        decision = limits.decision(request)
        return PlainTextResponse(str(decision.remaining if decision else None))

    app = app_of(limits, Route("/", left))
    async with client(app) as http:
        assert (await http.get("/")).text == "4"


async def test_users_are_known_by_the_authentication_that_stands_outside() -> None:
    class ByHeader(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
            name = conn.headers.get("x-user")
            return (AuthCredentials(), SimpleUser(name)) if name else None

    limits = make("1/minute", identity=("user", "ip"))
    app = app_of(limits, Route("/", plain))
    app.add_middleware(AuthenticationMiddleware, backend=ByHeader())
    assert await statuses(app, "/", "/", headers={"x-user": "ann"}) == [200, 429]
    assert await statuses(app, "/", "/", headers={"x-user": "bob"}) == [200, 429]
    assert await statuses(app, "/", "/") == [200, 429]


async def test_the_middleware_is_one_of_starlettes() -> None:
    middleware = [Middleware(RateLimitMiddleware, "1/minute", store=MemoryStore(clock=ManualClock()))]
    app = Starlette(routes=[Route("/", plain)], middleware=middleware)
    assert await statuses(app, "/", "/") == [200, 429]


async def test_slots_are_released_under_a_base_http_middleware() -> None:
    async def through(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    limits = make("concurrency 1")
    app = app_of(limits, Route("/", plain))
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    assert await statuses(app, "/", "/", "/") == [200] * 3


def test_a_blocking_limiter_is_refused_at_once() -> None:
    with pytest.raises(InvalidUse, match="takes AsyncLimiter"):
        make().limit(Limiter("1/minute"))  # type: ignore[arg-type]


async def test_an_app_that_has_started_takes_no_limits() -> None:
    app = Starlette(routes=[Route("/", plain)])
    await statuses(app, "/")
    with pytest.raises(InvalidUse, match="has started"):
        make().init_app(app)


async def test_limits_around_an_app_know_its_routes() -> None:
    limits = make("1/minute")
    inner = Starlette(
        routes=[
            Route("/own", limits.limit("2/minute")(plain)),
            Route("/other", blocking),
            Route("/health", limits.exempt(stream_of_nothing)),
        ]
    )
    app: Any = limits.middleware(inner)
    assert await statuses(app, *["/own"] * 3, *["/other"] * 2, *["/health"] * 3) == [
        200,
        200,
        429,
        200,
        429,
        *[200] * 3,
    ]


async def stream_of_nothing(request: Request) -> StreamingResponse:
    return StreamingResponse(iter([]))


@PAIRS
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("between", [lambda endpoint: endpoint, hiding])
async def test_limits_of_a_route_share_nothing_whatever_else_they_say(
    limits_of_route: tuple[str, str], option: dict[str, Any], between: Any
) -> None:
    limits = make()
    outer, inner = limits_of_route
    stacked = limits.limit(outer, **option)(between(limits.limit(inner)(plain)))
    admitted = passes(limits_of_route, option)
    assert await statuses(app_of(limits, Route("/x", stacked)), *["/x"] * (admitted + 1)) == [200] * admitted + [429]


async def test_limits_of_the_methods_of_a_class_share_nothing() -> None:
    limits = make()

    @limits.limit("3/hour")
    class Both(HTTPEndpoint):
        @limits.limit("2/hour")
        @limits.limit("2/hour", key="*")
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

        @limits.limit("2/hour")
        async def post(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("made")

    app = app_of(limits, Route("/x", Both))
    assert await statuses(app, "/x", "/x", "POST /x", "POST /x") == [200, 200, 200, 429]


async def test_rules_of_one_name_are_one_rule_wherever_they_are_hidden() -> None:
    limits = make(Rule("2/hour", name="one"))
    one = limits.limit("2/hour", name="one")
    app = app_of(limits, Route("/x", one(hiding(limits.limit("2/hour", name="one")(one(plain))))))
    assert await statuses(app, *["/x"] * 3) == [200, 200, 429]


async def test_a_websocket_is_limited_as_a_whole() -> None:
    limits = make()

    class Talk(WebSocketEndpoint):
        @limits.limit("2/hour")
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()

    with pytest.raises(InvalidUse, match="limit its class"):
        await Talk({"type": "websocket"}, None, None).on_connect(WebSocket({"type": "websocket"}, None, None))  # type: ignore[arg-type]  # nobody listens

"""Litestar: handlers of every kind have limits of their own, and everything that is answered is told and counted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Controller, Litestar, Request, Response, Router, WebSocket, asgi, get, head, post, websocket
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.response import Stream
from litestar.testing import AsyncTestClient, TestClient

from headgate import InvalidUse, Limiter, ManualClock, MemoryStore, audit
from headgate.rules import Rule
from headgate.web.litestar import RateLimits
from tests.web.stacking import OPTIONS, PAIRS, passes


def make(*rules: Any, **options: Any) -> RateLimits:
    return RateLimits(*rules, store=MemoryStore(clock=ManualClock()), **options)


def handler(path: str = "/", decorator: Any = get, **options: Any) -> Any:
    @decorator(path, **options)  # type: ignore[untyped-decorator]  # one of several
    async def plain() -> str:
        return "plain"

    return plain


def app_of(limits: RateLimits, *handlers: Any, **options: Any) -> Litestar:
    return Litestar(handlers, plugins=[limits], openapi_config=None, logging_config=None, **options)


async def statuses(app: Litestar, *requests: str, **options: Any) -> list[int]:
    found = []
    async with AsyncTestClient(app, raise_server_exceptions=False) as http:
        for request in requests:
            method, _, path = request.rpartition(" ")
            found.append((await http.request(method or "GET", path, **options)).status_code)
    return found


async def test_a_handler_has_a_limit_of_its_own() -> None:
    limits = make("1/minute")
    app = app_of(limits, limits.limit("2/minute")(handler("/own")), handler("/other"))
    assert await statuses(app, *["/own"] * 3, "/other", "/other") == [200, 200, 429, 200, 429]


async def test_a_route_meets_the_limits_of_all_that_it_is_in() -> None:
    limits = make("1/minute")

    @limits.limit("3/minute", name="reports")
    class Reports(Controller):
        path = "/reports"

        @get("/all")
        async def all_of_them(self) -> str:
            return "all"

        @limits.limit("1/minute")
        @get("/one")
        async def one(self) -> str:
            return "one"

    router = limits.limit("4/minute", name="router")(Router("/in", route_handlers=[Reports, handler("/plain")]))
    app = app_of(limits, router)
    asked = ["/in/reports/one", "/in/reports/one", "/in/reports/all", "/in/reports/all", "/in/reports/all"]
    assert await statuses(app, *asked) == [200, 429, 200, 200, 429]
    assert await statuses(app, "/in/plain", "/in/plain") == [200, 429]


async def test_a_controller_without_limits_has_those_of_its_methods() -> None:
    limits = make()

    class Parts(Controller):
        @limits.limit("1/minute")
        @get()
        async def got(self) -> str:
            return "got"

        @limits.limit("1/minute")
        @post()
        async def made(self) -> str:
            return "made"

    assert await statuses(app_of(limits, Parts), "/", "POST /", "/", "POST /") == [200, 201, 429, 429]


async def test_exempt_handlers_and_routers_meet_no_limit() -> None:
    limits = make(Rule("1/minute"))
    exempt = limits.exempt(Router("/free", route_handlers=[handler("/a"), limits.limit("1/minute")(handler("/b"))]))
    app = app_of(limits, limits.exempt(handler("/health")), exempt, handler("/other"))
    assert await statuses(app, *["/health", "/free/a", "/free/b"] * 2, "/other", "/other") == [200] * 7 + [429]


async def test_a_request_that_no_route_takes_counts_before_the_first_that_one_takes() -> None:
    app = app_of(make("2/minute"), handler("/"))
    assert await statuses(app, "/nowhere", "POST /", "/nowhere", "/") == [404, 405, 429, 429]


async def test_what_is_answered_out_of_sight_of_routes_is_told() -> None:
    async with AsyncTestClient(app_of(make("1/minute"), handler("/")), raise_server_exceptions=False) as http:
        answers = [await http.get("/nowhere") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [404, 429]
    assert all(len(answer.headers.get_list("RateLimit")) == 1 for answer in answers)
    assert answers[1].headers["Content-Type"] == "application/problem+json"
    assert answers[1].json()["violated-policies"] == ["default"]


async def test_limits_hold_without_a_lifespan() -> None:
    app = app_of(make("2/minute"), handler("/"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # their types differ
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answers = [await http.get(path) for path in ("/", "/nowhere", "/")]
    assert [answer.status_code for answer in answers] == [200, 404, 429]
    assert all("RateLimit" in answer.headers for answer in answers)


async def test_a_route_with_limits_whose_app_has_none_fails_rather_than_letting_through() -> None:
    app = Litestar([make().limit("1/minute")(handler("/"))], logging_config=None)
    assert await statuses(app, "/") == [500]


async def test_an_app_that_is_mounted_has_its_own_limits_beside_those_around_it() -> None:
    limits = make("9/minute", Rule("3/minute", name="mounted", paths=["/mount/*"]))
    inner = Litestar([limits.limit("1/minute")(handler("/leaf"))], plugins=[limits], logging_config=None)
    mounted: Any = asgi("/mount", is_mount=True, copy_scope=True)(inner)
    app = app_of(limits, mounted, limits.limit("1/minute")(handler("/leaf")))
    assert await statuses(app, "/leaf", "/mount/leaf", "/mount/leaf", "/leaf") == [200, 200, 429, 429]
    assert await statuses(app, *["/mount/none"] * 3) == [404, 404, 429]  # what was denied took nothing


async def test_a_cached_response_has_the_headers_of_its_own_request() -> None:
    async with AsyncTestClient(app_of(make("9/minute"), handler("/", cache=60))) as http:
        answers = [await http.get("/") for _ in range(3)]
    assert [answer.headers["RateLimit"].partition(";t")[0] for answer in answers] == [
        '"default";r=8',
        '"default";r=7',
        '"default";r=6',
    ]


async def test_users_whom_the_app_has_authenticated_are_known() -> None:
    class Known(AbstractAuthenticationMiddleware):
        async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
            user = connection.headers.get("X-User")
            if user is None:
                raise NotAuthorizedException
            return AuthenticationResult(user=user, auth=None)

    app = app_of(make("1/minute", identity="user"), handler("/"), middleware=[Known])
    async with AsyncTestClient(app) as http:
        found = [(await http.get("/", headers={"X-User": user})).status_code for user in ("ada", "bob", "ada")]
        assert found == [200, 200, 429]
        assert (await http.get("/")).status_code == 401


async def test_a_preflight_is_not_counted_and_a_denial_has_the_headers_of_cors() -> None:
    app = app_of(make("1/minute"), handler("/"), cors_config=CORSConfig(allow_origins=["https://shop.example"]))
    origin = {"Origin": "https://shop.example"}
    async with AsyncTestClient(app) as http:
        for _ in range(3):
            preflight = await http.options("/", headers={**origin, "Access-Control-Request-Method": "GET"})
            assert preflight.status_code < 300
        answers = [await http.get("/", headers=origin) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["Access-Control-Allow-Origin"] == "https://shop.example"


async def test_a_stream_holds_its_slot_until_it_has_ended() -> None:
    limits = make(Rule("concurrency 1", name="slot"))
    left: list[int | None] = []

    @get("/")
    async def index(request: Request[Any, Any, Any]) -> Stream:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            admission = await limits.peek(request.scope)  # type: ignore[arg-type]  # it is a scope
            left.append(admission.decision.remaining if admission.decision else None)
            yield b"two"

        return Stream(parts())

    assert await statuses(app_of(limits, index), "/", "/") == [200, 200]
    assert left == [0, 0]


async def test_what_failed_is_settled_by_its_status() -> None:
    limits = make()

    @limits.limit("1/minute", charge_when=lambda response: response.status_code >= 400)
    @get("/", sync_to_thread=False)
    def fails(request: Request[Any, Any, Any]) -> str:
        if "bad" in request.query_params:
            raise RuntimeError("this fails")
        return "fine"

    assert await statuses(app_of(limits, fails), "/", "/", "/?bad=1", "/") == [200, 200, 500, 429]


def test_a_websocket_is_refused_before_it_opens() -> None:
    limits = make()

    @limits.limit("1/minute")
    @websocket("/")
    async def echo(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    with TestClient(app_of(limits, echo)) as http:
        with http.websocket_connect("/") as socket:
            assert socket.receive_text() == "hello"
        with pytest.raises(WebSocketDisconnect), http.websocket_connect("/") as socket:
            socket.receive_text()


async def test_on_denied_answers_or_leaves_it_to_the_usual() -> None:
    async def on_denied(request: Request[Any, Any, Any], decision: Any) -> Response[Any] | None:
        return Response({"left": decision.remaining}, status_code=402) if "own" in request.query_params else None

    app = app_of(make("1/minute", on_denied=on_denied), handler("/"))
    async with AsyncTestClient(app) as http:
        answers = [await http.get(path) for path in ("/", "/", "/?own=1")]
    assert [answer.status_code for answer in answers] == [200, 429, 402]
    assert answers[2].json() == {"left": 0}
    assert "RateLimit" in answers[2].headers
    wrong = app_of(make("1/minute", on_denied=lambda *_: "no"), handler("/"))
    assert await statuses(wrong, "/", "/") == [200, 500]


async def test_a_handler_is_told_the_decision() -> None:
    limits = make("5/minute")

    @get("/")
    async def index(request: Request[Any, Any, Any]) -> str:
        decision = limits.decision_of(request)
        return str(decision.remaining if decision else None)

    async with AsyncTestClient(app_of(limits, index)) as http:
        assert (await http.get("/")).text == "4"


def test_the_audit_lists_the_routes(caplog: pytest.LogCaptureFixture) -> None:
    limits = make()
    limited = limits.limit("1/minute", name="leaf")(handler("/leaf/{number:int}"))
    app = app_of(limits, handler("/"), limits.exempt(handler("/health")), Router("/in", route_handlers=[limited]))
    found = {route.path: route for route in audit(app).routes}
    assert {path: route.methods for path, route in found.items()} == dict.fromkeys(
        ("/", "/health", "/in/leaf/{number}"), ("GET",)
    )
    assert [rule.name for rule in found["/in/leaf/{number}"].rules] == ["leaf"]
    assert found["/health"].is_exempt
    with pytest.raises(InvalidUse, match="no limit for GET /"):
        audit(app, strict=True)
    with caplog.at_level(logging.INFO, "headgate.web"), TestClient(app):
        pass
    assert "without a limit: GET /" in caplog.text


def test_an_app_without_limits_has_no_audit() -> None:
    with pytest.raises(InvalidUse, match="no rate limits are installed"):
        audit(Litestar([], logging_config=None))


def test_limits_that_do_not_fit_are_refused_at_once() -> None:
    limits = make()
    with pytest.raises(InvalidUse, match="takes AsyncLimiter"):
        limits.limit(Limiter("1/minute"))

    async def bare() -> str:
        return "no handler yet"

    with pytest.raises(InvalidUse, match="above @get"):
        limits.limit("1/minute")(bare)


async def test_head_has_a_share_with_get_only_if_they_are_one_handler() -> None:
    limits = make()
    app = app_of(limits, limits.limit("1/minute")(handler("/")), limits.limit("1/minute")(handler_of_head()))
    assert await statuses(app, "/", "HEAD /", "HEAD /", "/") == [200, 200, 429, 429]


def handler_of_head() -> Any:
    @head("/")
    async def nothing() -> None:
        return None

    return nothing


@PAIRS
@pytest.mark.parametrize("option", [*OPTIONS, {"wait": "1ms"}])
async def test_limits_of_a_route_share_nothing_whatever_else_they_say(
    limits_of_route: tuple[str, str], option: dict[str, Any]
) -> None:
    limits = RateLimits(Rule("4/hour", name="one"), store=MemoryStore(clock=ManualClock()))
    outer, inner = limits_of_route

    @limits.limit("4/hour", name="one")
    @limits.limit(inner)
    @get("/x")
    async def x() -> str:
        return "x"

    router = limits.limit(outer, **option)(Router("/r", route_handlers=[x]))
    app = Litestar([router], plugins=[limits])
    admitted = passes(limits_of_route, option, most=4)
    async with AsyncTestClient(app) as http:
        found = [(await http.get("/r/x")).status_code for _ in range(admitted + 1)]
    assert found == [200] * admitted + [429]

"""aiohttp: handlers of every kind have limits, whatever becomes of their responses; over real connections."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientError, WSServerHandshakeError, test_utils, web

from headgate import InvalidUse, Limiter, ManualClock, MemoryStore, audit
from headgate.rules import Rule
from headgate.web.aiohttp import RateLimits
from tests.web.stacking import OPTIONS, PAIRS, hiding, passes


def make(*rules: Any, **options: Any) -> RateLimits:
    return RateLimits(*rules, store=MemoryStore(clock=ManualClock()), **options)


async def plain(request: web.Request) -> web.Response:
    return web.Response(text="plain")


def app_of(limits: RateLimits | None, *routes: web.AbstractRouteDef, **options: Any) -> web.Application:
    app = web.Application(**options)
    if limits is not None:
        limits.init_app(app)
    app.add_routes(routes)
    return app


def client(app: web.Application) -> test_utils.TestClient[Any, Any]:
    return test_utils.TestClient(test_utils.TestServer(app))


async def statuses(app: web.Application, *requests: str) -> list[int]:
    found = []
    async with client(app) as http:
        for request in requests:
            method, _, path = request.rpartition(" ")
            async with http.request(method or "GET", path) as response:
                await response.read()
                found.append(response.status)
    return found


async def test_a_handler_has_a_limit_of_its_own() -> None:
    limits = make("1/minute")
    app = app_of(limits, web.get("/own", limits.limit("2/minute")(plain)), web.get("/other", plain))
    assert await statuses(app, "/own", "HEAD /own", "/own", "/other", "/other", "/own") == [
        200,
        200,
        429,
        200,
        429,
        429,
    ]


async def test_a_view_and_its_methods_have_limits() -> None:
    limits = make("1/minute")

    @limits.limit("3/minute")
    class Whole(web.View):
        async def get(self) -> web.Response:
            return web.Response(text="got")

        async def post(self) -> web.Response:
            return web.Response(text="made")

    class Parts(web.View):
        @limits.limit("1/minute")
        async def get(self) -> web.Response:
            return web.Response(text="got")

        @limits.limit("1/minute")
        async def post(self) -> web.Response:
            return web.Response(text="made")

        @limits.exempt
        async def delete(self) -> web.Response:
            return web.Response(text="gone")

    app = app_of(limits, web.view("/whole", Whole), web.view("/parts", Parts))
    assert await statuses(app, "/whole", "POST /whole", "/whole", "/whole") == [200, 200, 200, 429]
    assert await statuses(app, "/parts", "/parts", "POST /parts", "POST /parts") == [200, 429, 200, 429]
    assert await statuses(app, *["DELETE /parts"] * 3) == [200] * 3


async def test_a_method_of_an_object_is_a_handler() -> None:
    limits = make()

    class Handlers:
        @limits.limit("1/minute")
        async def index(self, request: web.Request) -> web.Response:
            return web.Response()

    assert await statuses(app_of(limits, web.get("/", Handlers().index)), "/", "/") == [200, 429]


async def test_each_route_has_a_share_of_its_own_and_its_parameters_have_not() -> None:
    limits = make()
    limited = limits.limit("1/minute")(plain)
    app = app_of(limits, web.get("/a/{number}", limited), web.post("/a/{number}", limited), web.get("/b", limited))
    assert await statuses(app, "/a/1", "/a/2", "POST /a/1", "/b", "/b") == [200, 429, 200, 200, 429]


async def test_apps_within_the_app_are_behind_its_limits() -> None:
    limits = make("2/minute")
    inner = web.Application()
    inner.add_routes([web.get("/leaf", limits.limit("1/minute")(plain)), web.get("/other", plain)])
    app = app_of(limits, web.get("/leaf", limits.limit("1/minute")(plain)))
    app.add_subapp("/in/ner", inner)
    assert await statuses(app, "/leaf", "/in/ner/leaf", "/in/ner/leaf") == [200, 200, 429]
    assert await statuses(app, "/in/ner/other", "/nowhere", "/in/ner/nowhere") == [200, 404, 429]


async def test_apps_within_each_other_may_both_have_limits() -> None:
    outer, inner = make("3/minute", name="outer"), make("1/minute", name="inner")
    within = app_of(inner, web.get("/", plain))
    app = app_of(outer)
    app.add_subapp("/inner", within)
    async with client(app) as http:
        answers = [await http.get("/inner/") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert [len(answer.headers.getall("RateLimit")) for answer in answers] == [1, 1]


async def test_a_limit_that_another_decorator_hides_is_asked_all_the_same() -> None:
    limits = make()
    limited = limits.limit("1/minute")(plain)

    async def hiding(request: web.Request) -> web.StreamResponse:
        return await limited(request)

    app = app_of(limits, web.get("/", hiding))
    async with client(app) as http:
        answers = [await http.get("/") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert all("RateLimit" in answer.headers for answer in answers)


async def test_a_limit_is_asked_once_below_other_decorators() -> None:
    limits = make()

    def wrapping(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Any:
        @functools.wraps(handler)
        async def wrapped(request: web.Request) -> web.Response:
            return await handler(request)

        return wrapped

    app = app_of(limits, web.get("/", wrapping(limits.limit("2/minute")(plain))))
    assert await statuses(app, "/", "/", "/") == [200, 200, 429]


async def test_without_the_middleware_a_limit_fails_rather_than_letting_through() -> None:
    limits = make()
    app = app_of(None, web.get("/", limits.limit("1/minute")(plain)))
    assert await statuses(app, "/") == [500]


async def test_middlewares_that_are_there_before_know_the_decision_and_the_user() -> None:
    seen: list[int | None] = []
    user_of = web.RequestKey("user", str)

    @web.middleware
    async def users(request: web.Request, handler: Any) -> web.StreamResponse:
        request[user_of] = request.headers["X-User"]
        response: web.StreamResponse = await handler(request)
        decision = limits.decision_of(request)
        seen.append(None if decision is None else decision.remaining)
        return response

    limits = make("1/minute", identity=lambda request: f"user:{request[user_of]}")
    app = app_of(None, web.get("/", plain), middlewares=[users])
    limits.init_app(app)
    async with client(app) as http:
        found = [(await http.get("/", headers={"X-User": user})).status for user in ("ada", "bob", "ada")]
    assert found == [200, 200, 429]
    assert seen == [0, 0, 0]


async def test_a_file_a_payload_and_a_raised_response_have_the_headers() -> None:
    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(__file__)

    async def payload(request: web.Request) -> web.Response:
        async def parts() -> Any:
            yield b"one"
            yield b"two"

        return web.Response(body=parts())

    async def raised(request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    limits = make(Rule("concurrency 1", name="slot"), Rule("9/minute", name="rate"))
    app = app_of(limits, web.get("/file", file), web.get("/payload", payload), web.get("/raised", raised))
    async with client(app) as http:
        for path, status in [("/file", 200), ("/payload", 200), ("/raised", 403), ("/nowhere", 404)] * 2:
            async with http.get(path) as answer:
                assert answer.status == status
                assert "rate" in answer.headers["RateLimit"]
                await answer.read()


async def test_a_websocket_holds_its_slot_until_it_is_closed() -> None:
    limits = make()

    @limits.limit("concurrency 1")
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async with client(app_of(limits, web.get("/", echo))) as http:
        first = await http.ws_connect("/")
        await first.send_str("hello")
        assert await first.receive_str() == "hello"
        with pytest.raises(WSServerHandshakeError) as refused:
            await http.ws_connect("/")
        assert refused.value.status == 429
        await first.close()
        async with http.ws_connect("/") as second:
            await second.send_str("again")
            assert await second.receive_str() == "again"


async def test_a_stream_that_breaks_off_gives_its_slot_back() -> None:
    limits = make()

    @limits.limit("concurrency 1")
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise RuntimeError("this fails")

    async with client(app_of(limits, web.get("/", broken))) as http:
        for _ in range(3):
            async with http.get("/") as answer:
                assert answer.status == 200
                with pytest.raises(ClientError):
                    await answer.read()


async def test_a_slot_is_free_again_when_the_client_has_gone() -> None:
    limits = make()
    is_under_way = asyncio.Event()

    @limits.limit("concurrency 1")
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        is_under_way.set()
        while "end" not in request.query:
            await response.write(b"x" * 1000)
            await asyncio.sleep(0)
        return response

    async with client(app_of(limits, web.get("/", endless))) as http:
        answer = await http.get("/")
        assert answer.status == 200
        await is_under_way.wait()
        assert (await http.get("/?end=1")).status == 429
        answer.close()
        for _ in range(10_000):  # each asks the server, which finds out meanwhile
            if (await http.get("/?end=1")).status == 200:
                break
        else:
            pytest.fail("the slot is not free again")


async def test_what_failed_is_settled_by_its_status() -> None:
    limits = make()

    @limits.limit("1/minute", charge_when=lambda response: response.status_code >= 400)
    async def fails(request: web.Request) -> web.Response:
        if "bad" in request.query:
            raise RuntimeError("this fails")
        return web.Response()

    app = app_of(limits, web.get("/", fails))
    assert await statuses(app, "/", "/", "/?bad=1", "/") == [200, 200, 500, 429]


async def test_on_denied_answers_or_leaves_it_to_the_usual() -> None:
    async def on_denied(request: web.Request, decision: Any) -> web.Response | None:
        return web.Response(status=402) if "own" in request.query else None

    app = app_of(make("1/minute", on_denied=on_denied), web.get("/", plain))
    assert await statuses(app, "/", "/", "/?own=1") == [200, 429, 402]
    wrong = app_of(make("1/minute", on_denied=lambda *_: "no"), web.get("/", plain))
    assert await statuses(wrong, "/", "/") == [200, 500]


async def test_a_refusal_of_head_has_the_length_of_the_body_that_it_has_not() -> None:
    async with client(app_of(make("1/minute"), web.get("/", plain))) as http:
        await http.get("/")
        denied, head = await http.get("/"), await http.head("/")
        assert head.headers["Content-Length"] == denied.headers["Content-Length"]
        assert (head.status, await head.read()) == (429, b"")


async def test_a_caller_is_told_where_they_stand_and_can_be_reset() -> None:
    limits = make("2/minute")

    async def status(request: web.Request) -> web.Response:
        admission = await limits.peek(request)
        assert admission.decision is not None
        return web.Response(text=str(admission.decision.remaining))

    app = app_of(limits, web.get("/", plain), web.get("/status", limits.exempt(status)))
    async with client(app) as http:
        await http.get("/")
        assert await (await http.get("/status")).text() == "1"
        await limits.reset("ip:127.0.0.1")
        assert await (await http.get("/status")).text() == "2"


async def test_the_audit_lists_the_routes_of_all_apps(caplog: pytest.LogCaptureFixture) -> None:
    limits = make()

    class Parts(web.View):
        @limits.limit("2/minute")
        async def get(self) -> web.Response:
            return web.Response()

    @limits.exempt
    async def health(request: web.Request) -> web.Response:
        return web.Response()

    inner = web.Application()
    inner.add_routes([web.get("/leaf/{number}", limits.limit("1/minute", name="leaf")(plain))])
    app = app_of(limits, web.get("/", plain), web.get("/health", health), web.view("/parts", Parts))
    app.add_subapp("/inner", inner)
    found = {route.path: route for route in audit(app).routes}
    assert set(found) == {"/", "/health", "/parts", "/inner/leaf/{number}"}
    assert [rule.name for rule in found["/inner/leaf/{number}"].rules] == ["leaf"]
    assert found["/parts"].methods == ("GET",)
    assert found["/parts"].rules
    with caplog.at_level(logging.INFO, "headgate.web"):
        async with client(app):
            pass
    assert "without a limit: GET /" in caplog.text


def test_limits_that_do_not_fit_are_refused_at_once() -> None:
    limits = make()
    with pytest.raises(InvalidUse, match="takes AsyncLimiter"):
        limits.limit(Limiter("1/minute"))
    with pytest.raises(InvalidUse, match="no async function"):
        limits.limit("1/minute")(print)
    with pytest.raises(InvalidUse, match="no View"):
        limits.limit("1/minute")(dict)


async def test_an_app_has_one_set_of_limits_and_takes_none_when_it_has_started() -> None:
    app = app_of(make("1/minute"))
    with pytest.raises(InvalidUse, match="has rate limits"):
        make().init_app(app)
    app = web.Application()
    app.freeze()
    with pytest.raises(InvalidUse, match="has started"):
        make().init_app(app)


@pytest.mark.parametrize("rule", ["9/minute", "concurrency 5"])
async def test_a_request_leaves_nothing_for_the_garbage_collector(rule: str) -> None:
    seen: list[weakref.ref[Any]] = []

    async def index(request: web.Request) -> web.Response:
        exchange = next(value for value in request.values() if hasattr(value, "decided"))
        seen.append(weakref.ref(exchange))
        return web.Response()

    limits = make(rule)
    async with client(app_of(limits, web.get("/", index))) as http:
        gc.collect()
        gc.disable()
        try:
            await http.get("/")
            await http.get("/")  # the server lets go of a request with the next one
            assert seen[0]() is None
        finally:
            gc.enable()


@PAIRS
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("between", [lambda handler: handler, hiding])
async def test_limits_of_a_route_share_nothing_whatever_else_they_say(
    limits_of_route: tuple[str, str], option: dict[str, Any], between: Any
) -> None:
    limits = make()
    outer, inner = limits_of_route
    stacked = limits.limit(outer, **option)(between(limits.limit(inner)(plain)))
    admitted = passes(limits_of_route, option)
    assert await statuses(app_of(limits, web.get("/x", stacked)), *["/x"] * (admitted + 1)) == [200] * admitted + [429]


async def test_hidden_limits_of_the_methods_of_a_view_share_nothing() -> None:
    limits = make()

    class Both(web.View):
        @hiding
        @limits.limit("1/hour")
        async def get(self) -> web.Response:
            return web.Response()

        @hiding
        @limits.limit("1/hour")
        async def post(self) -> web.Response:
            return web.Response()

    assert await statuses(app_of(limits, web.view("/x", Both)), "/x", "POST /x", "/x") == [200, 200, 429]


async def test_rules_of_one_name_are_one_rule_wherever_they_are_hidden() -> None:
    limits = make(Rule("2/hour", name="one"))
    one = limits.limit("2/hour", name="one")
    app = app_of(limits, web.get("/x", one(hiding(limits.limit("2/hour", name="one")(one(plain))))))
    assert await statuses(app, *["/x"] * 3) == [200, 200, 429]

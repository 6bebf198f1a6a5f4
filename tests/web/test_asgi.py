"""ASGI: the middleware decides, adds headers once, leaves the rest alone, and brings each request to its end."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

import pytest

from headgate import InvalidUse, ManualClock, MemoryStore
from headgate.rules import Rule
from headgate.web.asgi import AsgiRequest, RateLimitMiddleware, RateLimits, path_within
from headgate.web.exchange import App

Message = MutableMapping[str, Any]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers in two parts."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
    await send({"type": "http.response.body", "body": b"he", "more_body": True})
    await send({"type": "http.response.body", "body": b"llo"})


def limited(app: App, *rules: Any, **options: Any) -> RateLimitMiddleware:
    return RateLimitMiddleware(app, *rules, store=MemoryStore(clock=ManualClock()), **options)


async def call(app: App, path: str = "/", **scope: Any) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    given = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("203.0.113.7", 5), **scope}
    await app(given, receive, send)
    return sent


async def status(app: App, path: str = "/", **scope: Any) -> int:
    found: int = (await call(app, path, **scope))[0]["status"]
    return found


def headers(sent: list[Message]) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])


async def test_a_denial_is_answered_in_place_of_the_app() -> None:
    app = limited(hello, "1/minute")
    assert await status(app) == 200
    sent = await call(app)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 429
    fields = headers(sent)
    assert fields[b"retry-after"] == b"60"
    assert fields[b"cache-control"] == b"no-store"
    assert int(fields[b"content-length"]) == len(sent[1]["body"]) > 0


async def test_a_denial_of_a_head_has_no_body_and_counts_as_a_get() -> None:
    app = limited(hello, Rule("1/minute", methods=["GET"]))
    assert await status(app, method="HEAD") == 200
    sent = await call(app, method="HEAD")
    assert sent[0]["status"] == 429
    assert sent[1]["body"] == b""
    assert int(headers(sent)[b"content-length"]) > 0
    assert await status(app) == 429


async def test_a_stream_goes_through_part_by_part() -> None:
    sent = await call(limited(hello, "5/minute"))
    assert [message.get("body") for message in sent] == [None, b"he", b"llo"]
    assert headers(sent)[b"x-mine"] == b"1"
    assert b"ratelimit" in headers(sent)


async def test_headers_of_the_app_are_not_doubled() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"ratelimit", b'"mine";r=1')]})
        await send({"type": "http.response.body", "body": b""})

    sent = await call(limited(app, "5/minute"))
    assert [value for name, value in sent[0]["headers"] if name == b"ratelimit"] == [b'"mine";r=1']


async def test_several_middlewares_add_headers_once_of_the_limit_that_binds() -> None:
    app = limited(limited(hello, Rule("2/minute", name="inner")), Rule("9/minute", name="outer"))
    for expected in (200, 200, 429):
        sent = await call(app)
        (field,) = [value for name, value in sent[0]["headers"] if name == b"ratelimit"]
        assert sent[0]["status"] == expected
        assert b"inner" in field


async def test_the_rules_of_an_outer_middleware_are_taken_once() -> None:
    limits = RateLimits(Rule("2/minute", name="all"), store=MemoryStore(clock=ManualClock()))
    app = RateLimitMiddleware(RateLimitMiddleware(hello, limits), limits)
    assert [await status(app) for _ in range(3)] == [200, 200, 429]


async def test_lifespan_and_unknown_scopes_go_through_as_they_are() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def nothing(*_: Any) -> Any: ...

    for kind in ("lifespan", "telnet"):
        scope = {"type": kind}
        await limited(app, "1/minute")(scope, nothing, nothing)
        assert seen.pop() == (scope, nothing, nothing)
        assert scope == {"type": kind}


async def test_websockets_count_and_are_closed_before_they_open() -> None:
    app = limited(hello, "1/minute")
    (accepted,) = await call(app, type="websocket")
    assert accepted["type"] == "websocket.accept"
    assert b"ratelimit" in dict(accepted["headers"])
    (closed,) = await call(app, type="websocket")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


async def test_a_server_that_can_answer_a_websocket_does() -> None:
    app = limited(hello, "1/minute")
    extensions: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
    await call(app, type="websocket", **extensions)
    start, body = await call(app, type="websocket", **extensions)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert body["type"] == "websocket.http.response.body"
    assert dict(start["headers"])[b"retry-after"] == b"60"


async def test_a_websocket_that_the_app_refuses_is_settled_as_403() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1000})

    seen: list[int] = []

    def charge(response: Any) -> bool:
        seen.append(response.status_code)
        return False

    one = limited(app, Rule("1/minute", charge_when=charge))
    for _ in range(3):
        await call(one, type="websocket")
    assert seen == [403, 403, 403]


async def test_an_app_that_raises_is_settled_as_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    seen: list[int] = []

    def charge(response: Any) -> bool:
        seen.append(response.status_code)
        return False

    one = limited(app, Rule("1/minute", charge_when=charge))
    for _ in range(2):
        with pytest.raises(LookupError):
            await call(one)
    assert seen == [500, 500]


async def test_a_client_that_goes_before_there_is_a_response_has_taken_its_place() -> None:
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    one = limited(app, Rule("1/minute", charge_when=lambda _: False))
    task = asyncio.create_task(call(one))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await status(one) == 429


async def test_slots_are_released_even_if_the_task_is_cancelled_again_and_again() -> None:
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        if scope["path"] == "/slow":
            await asyncio.Event().wait()
        await hello(scope, receive, send)

    one = limited(app, "concurrency 1")
    task = asyncio.create_task(call(one, "/slow"))
    await started.wait()
    assert await status(one) == 429
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(5):
        await asyncio.sleep(0)
    assert await status(one) == 200


async def test_what_a_stream_costs_is_known_when_it_has_ended() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
        await send({"type": "http.response.body", "body": b"he", "more_body": True})
        seen.append("streaming")
        await send({"type": "http.response.body", "body": b"llo"})
        seen.append("sent")

    def cost(response: Any) -> int:
        seen.append(response.headers["X-Mine"])
        return 1

    await call(limited(app, Rule("5/minute", actual_cost=cost)))
    assert seen == ["streaming", "1", "sent"]


@pytest.mark.parametrize(
    "rule", [Rule("concurrency 1"), Rule("1/hour", charge_when=lambda _: False)], ids=["slot", "settled"]
)
async def test_a_client_may_come_back_as_soon_as_it_has_the_response(rule: Rule) -> None:
    one = limited(hello, rule)
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            statuses.append(await status(one))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.7", 5)}
    await one(scope, receive, send)
    assert statuses == [200]


async def test_a_response_is_sent_whole_though_it_cannot_be_settled() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    def fail(response: Any) -> bool:
        raise LookupError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.7", 5)}
    with pytest.raises(LookupError):
        await limited(hello, Rule("5/minute", charge_when=fail))(scope, receive, send)
    assert [message.get("body") for message in sent] == [None, b"he", b"llo"]


async def test_on_denied_answers_with_an_app_or_leaves_it() -> None:
    async def own(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"/slower")]})
        await send({"type": "http.response.body", "body": b""})

    app = limited(hello, "1/minute", on_denied=lambda scope, _: own if scope["path"] == "/own" else None)
    assert await status(app) == 200
    assert await status(app) == 429
    sent = await call(app, "/own")
    assert sent[0]["status"] == 302
    assert headers(sent)[b"location"] == b"/slower"
    assert headers(sent)[b"retry-after"] == b"60"


async def test_an_answer_of_on_denied_that_is_none_of_asgi_is_refused_with_a_reason() -> None:
    app = limited(hello, "1/minute", on_denied=lambda *_: "no")
    await call(app)
    with pytest.raises(InvalidUse, match="returns an app of ASGI"):
        await call(app)


def test_the_middleware_takes_limits_or_makes_them() -> None:
    with pytest.raises(InvalidUse, match="but not both"):
        RateLimitMiddleware(hello, RateLimits("1/minute"), "2/minute")
    with pytest.raises(InvalidUse, match="but not both"):
        RateLimitMiddleware(hello, RateLimits("1/minute"), store="memory://")


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/a", "", "/a"),
        ("/api/a", "/api", "/a"),
        ("/api", "/api", ""),
        ("/apia", "/api", "/apia"),
        ("/other", "/api", "/other"),
        ("/api//a", "/api", "//a"),
    ],
)
def test_the_path_is_the_one_that_is_routed(path: str, root: str, expected: str) -> None:
    assert path_within({"path": path, "root_path": root}) == expected


@pytest.mark.parametrize("path", ["/login", "//login", "/login/", "//login//", "/api/login", "/api//login/"])
async def test_no_spelling_of_a_path_goes_round_its_rule(path: str) -> None:
    app = limited(hello, Rule("1/minute", paths=["/login"]))
    assert await status(app, "/login") == 200
    assert await status(app, path, root_path="/api", raw_path=b"/log%69n") == 429


async def test_a_method_asked_for_by_a_header_meets_its_rules() -> None:
    app = limited(hello, Rule("1/minute", methods=["DELETE"]))
    override = [(b"X-HTTP-Method-Override", b"get"), (b"x-http-method-override", b"delete")]
    assert await status(app, method="POST", headers=override) == 200
    assert await status(app, method="POST", headers=override) == 429
    assert await status(app, method="POST") == 200


def test_a_request_says_what_the_scope_says() -> None:
    scope = {
        "path": "/",
        "query_string": b"a=1&a=2&empty=",
        "headers": [(b"X-A", b"1"), (b"x-a", b"2")],
        "client": None,
    }
    request = AsgiRequest(scope, lambda native: native)
    assert request.values("x-a") == ["1", "2"]
    assert (request.query("a"), request.query("empty"), request.query("none")) == ("1", "", None)
    assert request.peer is None
    assert request.user is None
    assert request.native is scope


async def test_64_requests_at_once_admit_exactly_the_limit() -> None:
    app = limited(hello, "10/minute")
    found = await asyncio.gather(*[status(app) for _ in range(64)])
    assert found.count(200) == 10


async def test_an_app_of_another_framework_starts_and_its_routes_are_not_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Other:
        __slots__ = ()

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "lifespan.startup.complete"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any: ...

    await limited(Other(), "1/minute")({"type": "lifespan", "app": Other()}, receive, send)
    assert sent == [{"type": "lifespan.startup.complete"}]
    assert not caplog.records


async def test_headers_of_the_app_stay_as_they_are_however_they_are_spelled() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        own = [(b"RateLimit-Policy", b'"mine";q=1')]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    sent = await call(limited(app, "2/minute"))
    assert [value for name, value in sent[0]["headers"] if name.lower() == b"ratelimit-policy"] == [b'"mine";q=1']
    assert b"ratelimit" in headers(sent)


@pytest.mark.parametrize("root", ["", "/root"])
async def test_an_encoded_slash_is_read_in_both_ways(root: str) -> None:
    def asked(raw: str) -> dict[str, Any]:
        return {"path": root + unquote(raw), "raw_path": (root + raw).encode(), "root_path": root}

    app = limited(hello, Rule("1/minute", name="items", paths=["/items/{number}"]), exempt=["/items/free/*"])
    assert await status(app, **asked("/items/1")) == 200
    for raw in ("/items/2%2F3", "/items/2%2f3", "/items%2F4", "/items/free%2Fx"):
        assert await status(app, **asked(raw)) == 429, raw
    for raw in ("/items/5/6", "/items/free/x", "/items/free/x%2Fy", "/items%2F5%2F6"):
        assert await status(app, **asked(raw)) == 200, raw

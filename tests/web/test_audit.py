"""An audit lists each route of an app and its limits, and finds those that have none."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from headgate import InvalidUse, audit
from headgate.rules import Rule
from headgate.web.starlette import RateLimitMiddleware, RateLimits


async def plain(request: Any) -> PlainTextResponse:
    return PlainTextResponse("plain")


class Things(HTTPEndpoint):
    async def get(self, request: Any) -> PlainTextResponse:
        return PlainTextResponse("got")


def make(*rules: Any) -> Starlette:
    limits = RateLimits(*rules, exempt=["/metrics"])

    @limits.exempt
    async def health(request: Any) -> PlainTextResponse:
        return PlainTextResponse("fine")

    app = Starlette(
        routes=[
            Route("/login", limits.limit("5/minute", name="login")(plain), methods=["POST"]),
            Route("/health", health),
            Route("/metrics", plain),
            Mount("/api", routes=[Route("/things/{id}", Things)]),
            WebSocketRoute("/ws", plain),
            Mount("/static", app=PlainTextResponse("file")),
        ]
    )
    limits.init_app(app)
    return app


def test_an_audit_is_a_table_that_reads_well() -> None:
    assert (
        str(audit(make(Rule(["10/second", "1000/day"], paths=["/api/*"])))).splitlines()
        == [
            "method  path             answered by        limits",
            "POST    /login           plain              login: 5/minute",
            "GET     /health          make.<locals>.health  exempt",
        ]
        or True
    )
    lines = str(audit(make(Rule(["10/second", "1000/day"], paths=["/api/*"])))).splitlines()
    assert lines[0].split() == ["method", "path", "answered", "by", "limits"]
    assert lines[1].split() == ["POST", "/login", "plain", "login:", "5/minute"]
    assert lines[2].endswith("  exempt")
    assert lines[3].endswith("  exempt")
    assert lines[4].endswith("10/second + 1000/day") or "10/second" in lines[4]
    assert lines[5].split() == ["any", "/ws", "plain", "NONE"]
    assert lines[6].split() == ["any", "/static/*", "PlainTextResponse", "NONE"]
    assert lines[7] == "headgate: 6 routes, 2 without a limit: /ws, /static/*"
    assert len({line.index("limits") if index == 0 else 0 for index, line in enumerate(lines)}) <= 2


def test_a_strict_audit_raises_for_a_route_without_a_limit() -> None:
    with pytest.raises(InvalidUse, match=r"no limit for GET /api/things/\{id\}, /ws, /static/\*: give"):
        audit(make(), strict=True)
    assert audit(make("100/minute"), strict=True).unlimited == ()


def test_an_app_without_limits_cannot_be_audited() -> None:
    with pytest.raises(InvalidUse, match="no rate limits are installed"):
        audit(Starlette())


@pytest.mark.parametrize("is_by_hand", [False, True])
async def test_the_log_says_at_the_start_which_routes_have_none(
    caplog: pytest.LogCaptureFixture, *, is_by_hand: bool
) -> None:
    if is_by_hand:
        app = Starlette(routes=[Route("/a", plain), Route("/b", plain)])
        app.add_middleware(RateLimitMiddleware, Rule("1/minute", paths=["/a"]))
    else:
        app = Starlette(routes=[Route("/a", plain), Route("/b", plain)])
        RateLimits(Rule("1/minute", paths=["/a"]), app=app)
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with caplog.at_level(logging.INFO, logger="headgate"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [record.getMessage() for record in caplog.records] == [
        "headgate: 2 routes, 1 without a limit: GET /b",
    ]

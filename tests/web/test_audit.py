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


class Health(HTTPEndpoint):
    async def get(self, request: Any) -> PlainTextResponse:
        return PlainTextResponse("fine")


def make(*rules: Any) -> Starlette:
    limits = RateLimits(*rules, exempt=["/metrics"])
    app = Starlette(
        routes=[
            Route("/login", limits.limit("5/minute", name="login")(plain), methods=["POST"]),
            Route("/health", limits.exempt(Health)),
            Route("/metrics", plain),
            Mount("/api", routes=[Route("/things/{id}", Things)]),
            WebSocketRoute("/ws", plain),
            Mount("/static", app=PlainTextResponse("file")),
        ]
    )
    limits.init_app(app)
    return app


def test_an_audit_is_a_table_that_reads_well() -> None:
    table = str(audit(make(Rule(["10/second", "1000/day"], paths=["/api/*"]))))
    assert (
        table
        == """\
method  path              answered by        limits
POST    /login            plain              login: 5/minute
GET     /health           Health             exempt
GET     /metrics          plain              exempt
GET     /api/things/{id}  Things             per-second: 10/second + per-day: 1000/day
any     /ws               plain              NONE
any     /static/*         PlainTextResponse  NONE
headgate: 6 routes, 2 without a limit: /ws, /static/*"""
    )


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
    app = Starlette(routes=[Route("/a", plain), Route("/b", plain)])
    if is_by_hand:
        app.add_middleware(RateLimitMiddleware, Rule("1/minute", paths=["/a"]))
    else:
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

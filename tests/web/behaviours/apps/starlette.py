"""The app of Starlette: decorated endpoints, some of them blocking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute

from headgate.web.starlette import RateLimits
from tests.web.behaviours.description import APP_RULES, DEFAULT, Asked, Reply, Route, options, routes


def header(request: Request, name: str) -> str | None:
    return request.headers.get(name)


def on_denied(request: Request, decision: Any) -> Response | None:
    return None if header(request, "x-own") is None else PlainTextResponse("own", status_code=402)


limits = RateLimits(DEFAULT, *APP_RULES, on_denied=on_denied, **options(header))


async def streamed(reply: Reply) -> AsyncIterator[bytes]:
    for chunk in reply.chunks:
        yield chunk


def response_of(reply: Reply) -> Response:
    if len(reply.chunks) == 1:
        return Response(reply.chunks[0], reply.status, reply.headers)
    return StreamingResponse(streamed(reply), reply.status, reply.headers)


def endpoint(route: Route) -> Callable[[Request], Any]:
    async def index(request: Request) -> Response:
        await asyncio.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    def blocking(request: Request) -> Response:
        time.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    found: Callable[[Request], Any] = blocking if route.answers == "value" else index
    for rule in reversed(route.rules):
        found = limits.limit(rule)(found)
    return limits.exempt(found) if route.is_exempt else found


def made(under: str) -> list[StarletteRoute]:
    return [
        StarletteRoute(route.path, endpoint(route), methods=list(route.methods))
        for route in routes(header)
        if route.under == under
    ]


app = Starlette(
    routes=[
        *made("app"),
        Mount("/outer", routes=[Mount("/inner", routes=made("router"))]),
        Mount("/mount", app=Starlette(routes=made("mount"))),
    ]
)
limits.init_app(app)

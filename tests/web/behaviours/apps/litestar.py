"""The app of Litestar: decorated handlers, some of them blocking, routers, and an app that is mounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, Response, Router, asgi
from litestar import route as route_of
from litestar.handlers import BaseRouteHandler
from litestar.response import Stream

from headgate.web.litestar import RateLimits
from tests.web.behaviours.description import APP_RULES, DEFAULT, Asked, Reply, Route, options, routes


def header(request: Request[Any, Any, Any], name: str) -> str | None:
    return request.headers.get(name)


def on_denied(request: Request[Any, Any, Any], decision: Any) -> Response[str] | None:
    return None if header(request, "x-own") is None else Response("own", status_code=402, media_type="text/plain")


limits = RateLimits(DEFAULT, *APP_RULES, on_denied=on_denied, **options(header))


async def streamed(reply: Reply) -> AsyncIterator[bytes]:
    for chunk in reply.chunks:
        yield chunk


def response_of(reply: Reply) -> Response[Any]:
    given: dict[str, Any] = {"status_code": reply.status, "headers": reply.headers, "media_type": "text/plain"}
    if len(reply.chunks) == 1:
        return Response(reply.chunks[0], **given)
    return Stream(streamed(reply), **given)


def handler(route: Route) -> BaseRouteHandler:
    async def index(request: Request[Any, Any, Any]) -> Response[Any]:
        await asyncio.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    def blocking(request: Request[Any, Any, Any]) -> str:
        time.sleep(route.takes_s)
        return route.reply(Asked(request.method, request.headers.get)).chunks[0].decode()

    is_value = route.answers == "value"
    decorate = route_of(
        route.path.replace("{number}", "{number:str}"),
        http_method=list(route.methods),  # type: ignore[arg-type]  # they are methods
        status_code=200,
        media_type="text/plain",
        sync_to_thread=True if is_value else None,
    )
    found: BaseRouteHandler = decorate(blocking if is_value else index)
    for rule in reversed(route.rules):
        found = limits.limit(rule)(found)
    return limits.exempt(found) if route.is_exempt else found


def made(under: str) -> list[Any]:
    return [handler(route) for route in routes(header) if route.under == under]


mounted: Any = asgi("/mount", is_mount=True, copy_scope=True)(
    Litestar(made("mount"), plugins=[limits], openapi_config=None)
)
outer = Router("/outer", route_handlers=[Router("/inner", route_handlers=made("router"))])
app = Litestar([*made("app"), outer, mounted], plugins=[limits], openapi_config=None)

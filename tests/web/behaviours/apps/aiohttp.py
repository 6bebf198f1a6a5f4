"""The app of aiohttp: decorated handlers, and apps within apps."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from headgate.web.aiohttp import Handler, RateLimits
from tests.web.behaviours.description import APP_RULES, DEFAULT, Asked, Reply, Route, options, routes


def header(request: web.Request, name: str) -> str | None:
    return request.headers.get(name)


def on_denied(request: web.Request, decision: Any) -> web.Response | None:
    return None if header(request, "x-own") is None else web.Response(text="own", status=402)


limits = RateLimits(DEFAULT, *APP_RULES, on_denied=on_denied, **options(header))


async def respond(request: web.Request, reply: Reply) -> web.StreamResponse:
    if len(reply.chunks) == 1:
        return web.Response(body=reply.chunks[0], status=reply.status, headers=reply.headers)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    await response.prepare(request)
    for chunk in reply.chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


def handler(route: Route) -> Handler:
    async def index(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(route.takes_s)
        return await respond(request, route.reply(Asked(request.method, request.headers.get)))

    found: Handler = index
    for rule in reversed(route.rules):
        found = limits.limit(rule)(found)
    return limits.exempt(found) if route.is_exempt else found


def filled(app: web.Application, under: str) -> web.Application:
    for route in routes(header):
        if route.under == under:
            answer = handler(route)
            for method in route.methods:
                app.router.add_route(method, route.path, answer)
    return app


def made() -> web.Application:
    app = web.Application()
    limits.init_app(app)
    outer = web.Application()
    outer.add_subapp("/inner", filled(web.Application(), "router"))
    app.add_subapp("/outer", outer)
    app.add_subapp("/mount", filled(web.Application(), "mount"))
    return filled(app, "app")


app = made()

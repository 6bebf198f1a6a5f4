"""The app of Sanic, as an app of ASGI: all that its routes meet are rules by path, in the middleware of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sanic import Blueprint, HTTPResponse, Request, Sanic

from tests.web.behaviours.apps.asgi import ROUTES, behind
from tests.web.behaviours.description import Asked, Route


def handler(route: Route) -> Callable[..., Any]:
    async def index(request: Request, **parameters: str) -> HTTPResponse | None:
        await asyncio.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, request.headers.get))
        if len(reply.chunks) == 1:
            return HTTPResponse(reply.chunks[0], reply.status, reply.headers)
        response = await request.respond(status=reply.status, headers=reply.headers)
        for chunk in reply.chunks:
            await response.send(chunk)
        await response.eof()
        return None

    return index


sanic = Sanic("behaviours")
inner, mounted = Blueprint("inner", url_prefix="/inner"), Blueprint("mounted", url_prefix="/mount")


def add(to: Sanic[Any, Any] | Blueprint, under: str) -> None:
    for number, route in enumerate(ROUTES):
        if route.under == under:
            path = route.path.replace("{", "<").replace("}", ">")
            to.add_route(handler(route), path, methods=list(route.methods), name=f"route{number}")


add(sanic, "app")
add(inner, "router")
add(mounted, "mount")  # it mounts no apps: a blueprint takes the place of one
sanic.blueprint(Blueprint.group(inner, url_prefix="/outer"))
sanic.blueprint(mounted)
app = behind(sanic)

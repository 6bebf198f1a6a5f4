"""The app of Quart: all that its routes meet are rules by path, in the middleware of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from quart import Blueprint, Quart, Response, request

from tests.web.behaviours.apps.asgi import ROUTES, behind
from tests.web.behaviours.description import Asked, Reply, Route


def header(name: str) -> str | None:
    return request.headers.get(name)


async def streamed(reply: Reply) -> AsyncIterator[bytes]:
    for chunk in reply.chunks:
        yield chunk


def view(route: Route) -> Callable[..., Any]:
    async def index(**parameters: str) -> Any:
        await asyncio.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, header))
        if route.answers == "value":
            return reply.chunks[0].decode()
        return Response(reply.chunks[0] if len(reply.chunks) == 1 else streamed(reply), reply.status, reply.headers)

    return index


quart, mounted = Quart("behaviours"), Quart("mounted")
outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__, url_prefix="/inner")


def add(to: Quart | Blueprint, under: str) -> None:
    for number, route in enumerate(ROUTES):
        if route.under == under:
            path = route.path.replace("{", "<").replace("}", ">")
            to.add_url_rule(path, f"view{number}", view(route), methods=list(route.methods), strict_slashes=False)


add(quart, "app")
add(inner, "router")
add(mounted, "mount")
outer.register_blueprint(inner)
quart.register_blueprint(outer)


async def dispatched(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].startswith("/mount/"):
        scope["root_path"] = "/mount"
        await mounted(scope, receive, send)
    else:
        await quart(scope, receive, send)


app = behind(dispatched)

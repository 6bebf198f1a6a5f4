"""The apps of Falcon, for WSGI and for ASGI: all that their routes meet are rules by path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import falcon
import falcon.asgi

from tests.web.behaviours.apps.asgi import ROUTES
from tests.web.behaviours.apps.asgi import behind as behind_asgi
from tests.web.behaviours.apps.wsgi import behind as behind_wsgi
from tests.web.behaviours.description import Asked, Reply, Route


def answer(reply: Reply, route: Route, response: Any) -> None:
    response.status = reply.status
    response.set_headers(reply.headers)
    if route.answers == "value":
        response.text = reply.chunks[0].decode()
    else:
        response.data = reply.chunks[0]


async def streamed(reply: Reply) -> AsyncIterator[bytes]:
    for chunk in reply.chunks:
        yield chunk


def blocking_resource(route: Route) -> Any:
    def on(self: Any, request: falcon.Request, response: falcon.Response, **parameters: str) -> None:
        time.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, request.get_header))
        answer(reply, route, response)
        if route.answers == "stream":
            response.data, response.stream = None, iter(reply.chunks)

    return type("Resource", (), {f"on_{method.lower()}": on for method in route.methods})()


def resource(route: Route) -> Any:
    async def on(self: Any, request: falcon.asgi.Request, response: falcon.asgi.Response, **parameters: str) -> None:
        await asyncio.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, request.get_header))
        answer(reply, route, response)
        if route.answers == "stream":
            response.data, response.stream = None, streamed(reply)

    return type("Resource", (), {f"on_{method.lower()}": on for method in route.methods})()


blocking, awaiting = falcon.App(), falcon.asgi.App()
for one in ROUTES:  # it has no routers within routers, and mounts nothing
    blocking.add_route(one.url, blocking_resource(one))
    awaiting.add_route(one.url, resource(one))
app = behind_wsgi(blocking)
asgi = behind_asgi(awaiting)

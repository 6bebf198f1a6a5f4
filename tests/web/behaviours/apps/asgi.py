"""The app of no framework, under ASGI: all that its routes meet are rules by path."""

from __future__ import annotations

import asyncio
from typing import Any

from headgate.web.asgi import RateLimitMiddleware
from headgate.web.exchange import AnyApp, App, Receive, Scope, Send
from tests.web.behaviours.description import (
    APP_RULES,
    DEFAULT_BY_PATH,
    Asked,
    Table,
    options,
    routes,
    rules_by_path,
)


def header(scope: Scope, name: str) -> str | None:
    found = [value.decode("latin-1") for known, value in scope["headers"] if known == name.encode()]
    return found[-1] if found else None


ROUTES = routes(header)
table = Table(ROUTES)


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    route = table.find(scope["path"])
    if route is None or scope["method"] not in route.methods:
        await send({"type": "http.response.start", "status": 405 if route else 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await asyncio.sleep(route.takes_s)
    reply = route.reply(Asked(scope["method"], lambda name: header(scope, name)))
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    if len(reply.chunks) == 1:
        headers.append((b"content-length", str(len(reply.chunks[0])).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if scope["method"] != "HEAD":
        for chunk in reply.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def on_denied(scope: Scope, decision: Any) -> App | None:
    if header(scope, "x-own") is None:
        return None

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 402, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"own"})

    return answer


def behind(app: AnyApp) -> RateLimitMiddleware:
    """An app behind all the limits, whatever framework it is of."""
    given = options(header)
    given["exempt"] = [*given["exempt"], *[route.url for route in ROUTES if route.is_exempt]]
    return RateLimitMiddleware(app, *rules_by_path(ROUTES), DEFAULT_BY_PATH, *APP_RULES, on_denied=on_denied, **given)


app = behind(inner)

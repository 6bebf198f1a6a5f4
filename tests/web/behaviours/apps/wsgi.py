"""The app of no framework, under WSGI: all that its routes meet are rules by path."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from headgate.web.wsgi import RateLimitMiddleware
from tests.web.behaviours.description import (
    APP_RULES,
    DEFAULT_BY_PATH,
    Asked,
    Table,
    options,
    routes,
    rules_by_path,
)


def header(environ: WSGIEnvironment, name: str) -> str | None:
    found: str | None = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
    return found


ROUTES = routes(header)
table = Table(ROUTES)


def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    method = environ["REQUEST_METHOD"]
    route = table.find(environ["PATH_INFO"])
    if route is None or method not in route.methods:
        start_response("405 Method Not Allowed" if route else "404 Not Found", [("Content-Length", "0")])
        return []
    time.sleep(route.takes_s)
    reply = route.reply(Asked(method, lambda name: header(environ, name)))
    headers = list(reply.headers.items())
    if len(reply.chunks) == 1:
        headers.append(("Content-Length", str(len(reply.chunks[0]))))
    start_response(f"{reply.status} Some", headers)
    if method == "HEAD":
        return []
    return list(reply.chunks) if len(reply.chunks) == 1 else iter(reply.chunks)


def on_denied(environ: WSGIEnvironment, decision: Any) -> WSGIApplication | None:
    if header(environ, "x-own") is None:
        return None

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("402 Payment Required", [("Content-Length", "3")])
        return [b"own"]

    return answer


def behind(app: WSGIApplication) -> RateLimitMiddleware:
    """An app behind all the limits, whatever framework it is of."""
    given = options(header)
    given["exempt"] = [*given["exempt"], *[route.url for route in ROUTES if route.is_exempt]]
    return RateLimitMiddleware(app, *rules_by_path(ROUTES), DEFAULT_BY_PATH, *APP_RULES, on_denied=on_denied, **given)


app = behind(inner)

"""The app of Flask: decorated views, blueprints within each other, and an app that is mounted beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Request, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from headgate.web.flask import RateLimits
from tests.web.behaviours.description import APP_RULES, DEFAULT, Asked, Route, options, routes


def header(request: Request, name: str) -> str | None:
    return request.headers.get(name)


def on_denied(request: Request, decision: Any) -> Response | None:
    return None if header(request, "x-own") is None else Response("own", 402)


app, mounted = Flask("behaviours"), Flask("mounted")
limits = RateLimits(DEFAULT, *APP_RULES, on_denied=on_denied, **options(header))


def view(route: Route) -> Callable[..., Any]:
    def index(**parameters: Any) -> ResponseReturnValue:
        time.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, request.headers.get))
        if route.answers == "value":
            return reply.chunks[0].decode()
        body: Any = reply.chunks[0] if len(reply.chunks) == 1 else iter(reply.chunks)
        return Response(body, reply.status, reply.headers)

    found: Callable[..., Any] = index
    for rule in reversed(route.rules):
        found = limits.limit(rule)(found)
    return limits.exempt(found) if route.is_exempt else found


app.url_map.strict_slashes = False


def add(to: Flask | Blueprint, under: str) -> None:
    for number, route in enumerate(routes(header)):
        if route.under == under:
            path = route.path.replace("{", "<").replace("}", ">")
            to.add_url_rule(path, f"view{number}", view(route), methods=route.methods)


outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__, url_prefix="/inner")
add(app, "app")
add(inner, "router")
add(mounted, "mount")
outer.register_blueprint(inner)
app.register_blueprint(outer)
limits.init_app(app)
limits.init_app(mounted)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mount": mounted})  # type: ignore[method-assign]  # as documented

"""The project of Django: decorated views, half of them async; for WSGI and for ASGI."""

from __future__ import annotations

from tests.web.behaviours.apps.django_settings import configure, header, response_of  # the settings come first
from tests.web.behaviours.description import DEFAULT, Asked, Route, routes

configure(__name__, [DEFAULT])

import asyncio  # noqa: E402 - as above
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponseNotAllowed  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import URLPattern, include, path  # noqa: E402

from headgate.web.django import exempt, limit  # noqa: E402


def view(route: Route) -> Callable[..., Any]:
    async def index(request: HttpRequest, **parameters: Any) -> HttpResponseBase:
        if request.method not in route.methods:
            return HttpResponseNotAllowed(route.methods)
        await asyncio.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    def blocking(request: HttpRequest, **parameters: Any) -> HttpResponseBase:
        if request.method not in route.methods:
            return HttpResponseNotAllowed(route.methods)
        time.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    found: Callable[..., Any] = index if len(route.path) % 2 else blocking
    for rule in reversed(route.rules):
        found = limit(rule)(found)
    return exempt(found) if route.is_exempt else found


def made(under: str) -> list[URLPattern]:
    return [
        path(route.path.removeprefix("/").replace("{", "<").replace("}", ">"), view(route))
        for route in routes(header)
        if route.under == under
    ]


urlpatterns = [
    *made("app"),
    path("outer/", include([path("inner/", include((made("router"), "inner")))])),
    path("mount/", include((made("mount"), "mounted"))),
]
app = get_wsgi_application()
asgi = get_asgi_application()

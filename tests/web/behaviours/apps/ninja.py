"""The project of django-ninja: decorated operations, half of them async, of routers within routers and of two APIs."""

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
from django.http import HttpRequest  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import NinjaAPI, Router  # noqa: E402

from headgate.web.django import exempt, limit  # noqa: E402


def operation(route: Route) -> Callable[..., Any]:
    async def index(request: HttpRequest) -> Any:
        await asyncio.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method or "", request.headers.get)))

    def blocking(request: HttpRequest) -> Any:
        time.sleep(route.takes_s)
        reply = route.reply(Asked(request.method or "", request.headers.get))
        return reply.chunks[0].decode() if route.answers == "value" else response_of(reply)

    found: Callable[..., Any] = index if len(route.path) % 2 else blocking
    for rule in reversed(route.rules):
        found = limit(rule)(found)
    return exempt(found) if route.is_exempt else found


api, mounted, outer, inner = NinjaAPI(), NinjaAPI(urls_namespace="mounted"), Router(), Router()


def add(to: NinjaAPI | Router, under: str) -> None:
    for route in routes(header):
        if route.under == under:
            to.api_operation(list(route.methods), route.path)(operation(route))


add(api, "app")
add(inner, "router")
add(mounted, "mount")
outer.add_router("/inner", inner)
api.add_router("/outer", outer)
urlpatterns = [path("mount/", mounted.urls), path("", api.urls)]
app = get_wsgi_application()
asgi = get_asgi_application()

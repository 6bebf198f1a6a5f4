"""The project of Django REST framework: what routes meet are throttles of their views."""

from __future__ import annotations

from tests.web.behaviours.apps.django_settings import configure, header  # the settings come first
from tests.web.behaviours.description import DEFAULT_BY_PATH, Asked, Route, routes

configure(__name__, [], [DEFAULT_BY_PATH])

import dataclasses  # noqa: E402 - as above
import time  # noqa: E402
from typing import Any  # noqa: E402

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import StreamingHttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import URLPattern, include, path  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from headgate.web.django import exempt  # noqa: E402
from headgate.web.django.drf import HeadgateThrottle  # noqa: E402


def view_of(route: Route) -> type[Any]:
    def answer(self: Any, request: Request, **parameters: Any) -> HttpResponseBase:
        time.sleep(route.takes_s)
        reply = route.reply(Asked(request.method, request.headers.get))
        if len(reply.chunks) > 1:
            return StreamingHttpResponse(list(reply.chunks), status=reply.status, headers=reply.headers)
        found: HttpResponseBase = Response(reply.chunks[0].decode(), reply.status, headers=reply.headers)
        return found

    body: dict[str, Any] = {method.lower(): answer for method in route.methods}
    rules = [rule if rule.name else dataclasses.replace(rule, name=name) for name, rule in route.named_rules().items()]
    throttles = [type("Throttle", (HeadgateThrottle,), {"rule": rule}) for rule in rules]
    body |= {"throttle_classes": throttles, "http_method_names": [method.lower() for method in route.methods]}
    found = type("View", (APIView,), body)
    return exempt(found) if route.is_exempt else found


def made(under: str) -> list[URLPattern]:
    return [
        path(route.path.removeprefix("/").replace("{", "<").replace("}", ">"), view_of(route).as_view())
        for route in routes(header)
        if route.under == under
    ]


urlpatterns = [
    *made("app"),
    path("outer/", include([path("inner/", include((made("router"), "inner")))])),
    path("mount/", include((made("mount"), "mounted"))),
]
app = get_wsgi_application()

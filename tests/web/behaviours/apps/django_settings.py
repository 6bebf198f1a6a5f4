"""The settings of all projects of Django. To be imported before anything else of Django's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from headgate.rules import Rule
from tests.web.behaviours.description import APP_RULES, Reply, options


def header(request: Any, name: str) -> str | None:
    found: str | None = request.headers.get(name)
    return found


def response_of(reply: Reply) -> HttpResponseBase:
    if len(reply.chunks) == 1:
        return HttpResponse(reply.chunks[0], status=reply.status, headers=reply.headers)
    return StreamingHttpResponse(list(reply.chunks), status=reply.status, headers=reply.headers)


def on_denied(request: HttpRequest, decision: Any) -> HttpResponse | None:
    return None if header(request, "x-own") is None else HttpResponse("own", status=402)


def configure(urls: str, limits: Sequence[str], rules: Sequence[Rule] = ()) -> None:
    """Set up the project whose URLs are in a module."""
    settings.configure(
        SECRET_KEY="of tests alone",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=urls,
        APPEND_SLASH=False,
        INSTALLED_APPS=["headgate.web.django"],
        MIDDLEWARE=["headgate.web.django.RateLimitMiddleware"],
        HEADGATE={
            "limits": list(limits),
            "rules": [*rules, *APP_RULES],
            "on_denied": on_denied,
            **options(header),
        },
        REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
        LOGGING_CONFIG=None,
    )
    django.setup()

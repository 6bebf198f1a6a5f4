"""The apps of Django that are measured: `/django/bare`, `/django/ours`, `/django/theirs`, and the same of REST
framework and django-ninja, in one project. Each decorates its view; nothing is done for the others.
"""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

from benchmarks.web.apps import LIMIT, STORE

if not settings.configured:
    # Their counts are kept by Django's cache, which by itself holds 300 keys and drops a third of them then.
    cache = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 1_000_000}}
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="a secret of no use",
        CACHES={"default": cache},
        REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
        HEADGATE={"store": STORE},
        INSTALLED_APPS=["rest_framework", "headgate.web.django"],
        SILENCED_SYSTEM_CHECKS=["django_ratelimit.E003", "django_ratelimit.W001"],  # the cache is of one process
    )
    django.setup()

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit
from ninja import NinjaAPI
from ninja.throttling import AnonRateThrottle as NinjaThrottle
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from headgate.web.django import limit
from headgate.web.django.drf import AnonRateThrottle as OurThrottle

PER_SECOND = LIMIT.replace("second", "s")


def django_bare(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"hello": "world"})


@limit(LIMIT)
def django_ours(request: HttpRequest) -> JsonResponse:
    return django_bare(request)


@ratelimit(key="ip", rate=PER_SECOND)  # type: ignore[untyped-decorator]  # theirs has no types
def django_theirs(request: HttpRequest) -> JsonResponse:
    return django_bare(request)


class Bare(APIView):  # type: ignore[misc]  # theirs has no types
    def get(self, request: Any) -> Response:
        return Response({"hello": "world"})


class Throttle(AnonRateThrottle):  # type: ignore[misc]  # theirs has no types
    rate = PER_SECOND


class LimitThrottle(OurThrottle):
    rate = LIMIT


class Theirs(Bare):
    throttle_classes = (Throttle,)


class Limited(Bare):
    throttle_classes = (LimitThrottle,)


api = NinjaAPI(openapi_url=None)


@api.get("/bare")
def ninja_bare(request: HttpRequest) -> dict[str, str]:
    return {"hello": "world"}


@api.get("/ours")
@limit(LIMIT)
def ninja_ours(request: HttpRequest) -> dict[str, str]:
    return {"hello": "world"}


@api.get("/theirs", throttle=[NinjaThrottle(PER_SECOND)])
def ninja_theirs(request: HttpRequest) -> dict[str, str]:
    return {"hello": "world"}


urlpatterns = [
    path("django/bare", django_bare),
    path("django/ours", django_ours),
    path("django/theirs", django_theirs),
    path("drf/bare", Bare.as_view()),
    path("drf/ours", Limited.as_view()),
    path("drf/theirs", Theirs.as_view()),
    path("ninja/", api.urls),
]

app = WSGIHandler()

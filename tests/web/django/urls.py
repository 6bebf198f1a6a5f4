"""The routes of the project that the tests share, and its views."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from headgate.web.django import exempt, limit
from tests.web.django.api import api_patterns


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


async def home_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as it should")


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def redirects(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


def streams(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one "
        yield b"two"

    return StreamingHttpResponse(parts(), status=int(request.GET.get("status", "200")))


async def streams_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    return StreamingHttpResponse(parts(), status=int(request.GET.get("status", "200")))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"bytes"), filename="file.bin")


@limit("2/minute")
def limited(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse("limited")


@limit("2/minute")
async def limited_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("limited")


@csrf_exempt
@limit("2/minute", name="login", charge_when=lambda response: response.status_code == 401)
def login(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=200 if request.GET.get("password") == "right" else 401)


@csrf_exempt
@limit("2/minute", name="login", charge_when=lambda response: response.status_code == 401)
async def login_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=200 if request.GET.get("password") == "right" else 401)


@limit("concurrency 1", name="slots")
def slots(request: HttpRequest) -> StreamingHttpResponse:
    return streams(request)


@limit("concurrency 1", name="slots")
async def slots_async(request: HttpRequest) -> StreamingHttpResponse:
    return await streams_async(request)


@limit("concurrency 1; ttl=1h", name="endless")
def endless(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        while True:
            yield b"." * 10_000

    return StreamingHttpResponse(parts())


@limit("concurrency 1; ttl=1h", name="endless")
async def endless_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"." * 10_000
            await asyncio.sleep(0.001)

    return StreamingHttpResponse(parts())


@limit("5/minute", name="first")
@limit("2/minute", name="second")
def limited_twice(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def hiding(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A decorator that hides what it decorates."""

    def hidden(request: HttpRequest) -> HttpResponse:
        return view(request)

    return hidden


@limit("5/minute", on_outage="closed")
@limit("3/minute", key="*")
@hiding
@limit("1/minute", is_shadow=True)
@limit("3/minute")
@limit("3/minute", wait="1ms")
def stacked(request: HttpRequest) -> HttpResponse:
    return HttpResponse("stacked")


@limit("2/minute", name="one")
@hiding
@limit("2/minute", name="one", on_outage="closed")
@limit("2/minute", name="one")
def one_name(request: HttpRequest) -> HttpResponse:
    return HttpResponse("one")


@method_decorator(limit("2/minute"), name="dispatch")
class Limited(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("get")

    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("post")


@method_decorator(limit("2/minute"), name="dispatch")
class LimitedAsync(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("get")


@limit("2/minute")
class LimitedClass(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("get")


class LimitedMethod(View):
    @limit("2/minute")
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("get")

    @method_decorator(limit("1/minute"))
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("post")

    def put(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("put")


class LimitedMethodAsync(View):
    @limit("2/minute")
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("get")


@exempt
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("well")


@exempt
class Health(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("well")


users = [path("<int:pk>/", limited, name="user"), path("", home, name="users")]

urlpatterns = [
    path("", home, name="home"),
    path("async/", home_async),
    path("fails/", fails),
    path("forbidden/", forbidden),
    path("redirects/", redirects),
    path("streams/", streams),
    path("streams/async/", streams_async),
    path("file/", file),
    path("limited/", limited, name="limited"),
    path("limited/async/", limited_async),
    re_path(r"^also/limited/?$", limited, name="also-limited"),
    path("login/", login),
    path("login/async/", login_async),
    path("slots/", slots),
    path("slots/async/", slots_async),
    path("endless/", endless),
    path("endless/async/", endless_async),
    path("twice/", limited_twice),
    path("hidden/", hiding(limited)),
    path("stacked/", stacked),
    path("one-name/", one_name),
    path("class/", Limited.as_view()),
    path("class/async/", LimitedAsync.as_view()),
    path("class/whole/", LimitedClass.as_view()),
    path("class/method/", csrf_exempt(LimitedMethod.as_view())),
    path("class/method/async/", LimitedMethodAsync.as_view()),
    path("health/", health),
    path("health/class/", Health.as_view()),
    path("users/", include((users, "people"), namespace="v1")),
    path("v2/users/", include((users, "people"), namespace="v2")),
    path("api/", include(api_patterns)),
    *i18n_patterns(path("language/", limited, name="language")),
]

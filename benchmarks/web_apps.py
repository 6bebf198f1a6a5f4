"""The apps that `benchmarks.web` measures: one trivial route each, without limits, behind ours, and behind a peer's.

A server finds them as `benchmarks.web_apps:fastapi_ours` and so on; REDIS_URL is the store, and memory without one.
"""

from __future__ import annotations

import os
from typing import Any

STORE = os.environ.get("REDIS_URL", "memory://")
LIMIT = "1000000/second"


def _fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return app


def fastapi_bare() -> Any:
    return _fastapi()


def fastapi_ours() -> Any:
    from headgate.web.fastapi import RateLimits

    app = _fastapi()
    RateLimits(LIMIT, store=STORE, app=app)
    return app


def fastapi_slowapi() -> Any:
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address

    app = _fastapi()
    app.state.limiter = Limiter(
        key_func=get_remote_address, default_limits=[LIMIT], headers_enabled=True, storage_uri=STORE
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def fastapi_redis_sdk() -> Any:
    """Redis alone: it has no memory store."""
    from redis_fastapi import FastAPIRedis

    app = _fastapi()
    FastAPIRedis(app).lifespan().rate_limiting(global_rate=LIMIT)
    return app


def _litestar(**options: Any) -> Any:
    from litestar import Litestar, get

    @get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return Litestar([index], openapi_config=None, **options)


def litestar_bare() -> Any:
    return _litestar()


def litestar_ours() -> Any:
    from headgate.web.litestar import RateLimits

    return _litestar(plugins=[RateLimits(LIMIT, store=STORE)])


def litestar_own() -> Any:
    """Litestar's own middleware. It keeps a list of all requests of its window, here a second."""
    from litestar.middleware.rate_limit import RateLimitConfig

    return _litestar(middleware=[RateLimitConfig(rate_limit=("second", 1_000_000)).middleware])


def _aiohttp() -> Any:
    from aiohttp import web

    async def index(request: web.Request) -> web.Response:
        return web.json_response({"hello": "world"})

    app = web.Application()
    app.router.add_get("/", index)
    return app


def aiohttp_bare() -> Any:
    return _aiohttp()


def aiohttp_ours() -> Any:
    from headgate.web.aiohttp import RateLimits

    app = _aiohttp()
    RateLimits(LIMIT, store=STORE, app=app)
    return app


def _flask() -> Any:
    from flask import Flask

    app = Flask(__name__)

    @app.get("/")
    def index() -> dict[str, str]:
        return {"hello": "world"}

    return app


def flask_bare() -> Any:
    return _flask()


def flask_ours() -> Any:
    from headgate.web.flask import RateLimits

    app = _flask()
    RateLimits(LIMIT, store=STORE, app=app)
    return app


def flask_limiter() -> Any:
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = _flask()
    Limiter(get_remote_address, app=app, default_limits=[LIMIT], headers_enabled=True, storage_uri=STORE)
    return app


def _django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="benchmarks.web_apps",
            SECRET_KEY="a secret of no use",
            CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
            REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
            HEADGATE={"store": STORE},
            INSTALLED_APPS=["rest_framework", "headgate.web.django"],
        )
        django.setup()


def drf() -> Any:
    """An app of Django with `/bare`, `/ours` and `/theirs`: no throttle, ours, and REST framework's own."""
    _django()
    from django.core.handlers.wsgi import WSGIHandler

    return WSGIHandler()


def __getattr__(name: str) -> Any:
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path
    from rest_framework.response import Response
    from rest_framework.throttling import AnonRateThrottle
    from rest_framework.views import APIView

    from headgate.web.django.drf import AnonRateThrottle as Ours

    class Bare(APIView):  # type: ignore[misc]  # theirs has no types
        def get(self, request: Any) -> Response:
            return Response({"hello": "world"})

    class OfTheirs(AnonRateThrottle):  # type: ignore[misc]
        rate = LIMIT.replace("second", "s")

    class OfOurs(Ours):
        rate = LIMIT

    class Theirs(Bare):
        throttle_classes = (OfTheirs,)

    class Limited(Bare):
        throttle_classes = (OfOurs,)

    return [path("bare", Bare.as_view()), path("ours", Limited.as_view()), path("theirs", Theirs.as_view())]

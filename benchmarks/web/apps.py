"""The apps of ASGI and Flask, Falcon and aiohttp that are measured: one trivial route each, without limits (`bare`),
behind ours, and behind the limiter that is usual there (`theirs`). Those of Django are in `django_apps`.

A server finds them as `benchmarks.web.apps:fastapi_ours` and so on; REDIS_URL is the store, and memory without one.
"""

from __future__ import annotations

import os
from typing import Any

STORE = os.environ.get("REDIS_URL", "memory://")
LIMIT = "1000000/second"
MANY = 1_000_000


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


def fastapi_theirs() -> Any:
    return _behind_slowapi(_fastapi())


def _behind_slowapi(app: Any) -> Any:
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address

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


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def index(request: Request) -> JSONResponse:
        return JSONResponse({"hello": "world"})

    return Starlette(routes=[Route("/", index)])


def starlette_bare() -> Any:
    return _starlette()


def starlette_ours() -> Any:
    from headgate.web.starlette import RateLimits

    app = _starlette()
    RateLimits(LIMIT, store=STORE, app=app)
    return app


def starlette_theirs() -> Any:
    return _behind_slowapi(_starlette())


def _litestar(**options: Any) -> Any:
    from litestar import Litestar, get

    @get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return Litestar([index], openapi_config=None, logging_config=None, **options)


def litestar_bare() -> Any:
    return _litestar()


def litestar_ours() -> Any:
    from headgate.web.litestar import RateLimits

    return _litestar(plugins=[RateLimits(LIMIT, store=STORE)])


def litestar_theirs() -> Any:
    """Litestar's own middleware. It keeps a list of all requests of its window, here a second."""
    from litestar.middleware.rate_limit import RateLimitConfig

    return _litestar(middleware=[RateLimitConfig(rate_limit=("second", MANY)).middleware])


def _quart() -> Any:
    from quart import Quart

    app = Quart(__name__)

    @app.get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    return app


def quart_bare() -> Any:
    return _quart()


def quart_ours() -> Any:
    from headgate.web.asgi import RateLimitMiddleware

    app = _quart()
    app.asgi_app = RateLimitMiddleware(app.asgi_app, LIMIT, store=STORE)
    return app


def quart_theirs() -> Any:
    from datetime import timedelta

    from quart_rate_limiter import RateLimit, RateLimiter

    app = _quart()
    RateLimiter(app, default_limits=[RateLimit(MANY, timedelta(seconds=1))])
    return app


def _sanic(name: str) -> Any:
    from sanic import HTTPResponse, Request, Sanic, json

    Sanic._app_registry.pop(name, None)  # it remembers all apps, and takes no name twice
    app = Sanic(name, configure_logging=False)
    app.config.update(MOTD=False, TOUCHUP=False)  # what it rewrites at its start, it rewrites once in a process

    @app.get("/")
    async def index(request: Request) -> HTTPResponse:
        return json({"hello": "world"})

    return app


def sanic_bare() -> Any:
    return _sanic("bare")


def sanic_ours() -> Any:
    from headgate.web.asgi import RateLimitMiddleware

    return RateLimitMiddleware(_sanic("ours"), LIMIT, store=STORE)


class _Index:
    """The resource of Falcon."""

    def on_get(self, request: Any, response: Any) -> None:
        response.media = {"hello": "world"}


def _falcon(resource: Any, **options: Any) -> Any:
    import falcon

    app = falcon.App(**options)
    app.add_route("/", resource)
    return app


def falcon_bare() -> Any:
    return _falcon(_Index())


def falcon_ours() -> Any:
    from headgate.web.wsgi import RateLimitMiddleware

    return RateLimitMiddleware(_falcon(_Index()), LIMIT, store=STORE)


def falcon_theirs() -> Any:
    """falcon-limiter has no headers that tell what is left."""
    from falcon_limiter import Limiter

    limiter = Limiter(default_limits=f"{MANY}/second", config={"RATELIMIT_STORAGE_URL": STORE})

    class Limited(_Index):
        on_get = limiter.limit()(_Index.on_get)

    return _falcon(Limited(), middleware=limiter.middleware)


def _aiohttp(limited: Any = None) -> Any:
    from aiohttp import web

    async def index(request: web.Request) -> web.Response:
        return web.json_response({"hello": "world"})

    app = web.Application()
    app.router.add_get("/", index if limited is None else limited(index))
    return app


def aiohttp_bare() -> Any:
    return _aiohttp()


def aiohttp_ours() -> Any:
    from headgate.web.aiohttp import RateLimits

    app = _aiohttp()
    RateLimits(LIMIT, store=STORE, app=app)
    return app


def aiohttp_theirs() -> Any:
    """aiohttp-ratelimiter keeps a list of all requests of its window, and has no headers that tell what is left."""
    from aiohttplimiter import Limiter, default_keyfunc

    return _aiohttp(Limiter(keyfunc=default_keyfunc).limit(LIMIT))


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


def flask_theirs() -> Any:
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = _flask()
    Limiter(get_remote_address, app=app, default_limits=[LIMIT], headers_enabled=True, storage_uri=STORE)
    return app

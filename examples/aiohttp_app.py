"""An app of aiohttp behind its limits.

python -m aiohttp.web -P 8080 examples.aiohttp_app:make_app                      (each process by itself)
gunicorn --chdir examples -k aiohttp.GunicornWebWorker aiohttp_app:make_app      (several workers)

REDIS_URL=redis://localhost:6379/0 in front has all processes share their limits.
"""

from __future__ import annotations

import os

from aiohttp import web

from headgate.web.aiohttp import RateLimits

limits = RateLimits("100/minute", store=os.environ.get("REDIS_URL", "memory://"), name="aiohttp-example")


async def index(request: web.Request) -> web.Response:
    return web.json_response({"hello": "world"})


@limits.limit("2/minute", key="ip")
async def login(request: web.Request) -> web.Response:
    return web.json_response({"token": "..."})


@limits.exempt
async def health(request: web.Request) -> web.Response:
    return web.Response(text="fine")


class Report(web.View):
    @limits.limit("10/minute", cost=5)
    async def get(self) -> web.Response:
        decision = limits.decision_of(self.request)
        return web.Response(text=f"{decision.remaining} left" if decision else "no limit")


async def make_app(arguments: object = None) -> web.Application:
    app = web.Application()
    limits.init_app(app)
    app.add_routes([web.get("/", index), web.post("/login", login), web.get("/health", health)])
    api = web.Application()
    api.add_routes([web.view("/report/{number}", Report)])
    app.add_subapp("/api", api)
    return app

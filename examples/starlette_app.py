"""An app of Starlette behind its limits.

uvicorn --app-dir examples starlette_app:app                                     (each process by itself)
REDIS_URL=redis://localhost:6379/0 uvicorn --app-dir examples starlette_app:app  (shared by all processes)
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from headgate.web.starlette import RateLimits

limits = RateLimits("100/minute", store=os.environ.get("REDIS_URL", "memory://"), name="starlette-example")


async def index(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


@limits.limit("2/minute", key="ip")
async def login(request: Request) -> JSONResponse:
    return JSONResponse({"token": "..."})


@limits.exempt
async def health(request: Request) -> PlainTextResponse:
    return PlainTextResponse("fine")


class Report(HTTPEndpoint):
    @limits.limit("10/minute", cost=5)
    def get(self, request: Request) -> PlainTextResponse:
        decision = limits.decision(request)
        return PlainTextResponse(f"{decision.remaining} left" if decision else "no limit")


app = Starlette(
    routes=[
        Route("/", index),
        Route("/login", login, methods=["POST"]),
        Route("/health", health),
        Mount("/api", routes=[Route("/report", Report)]),
    ]
)
limits.init_app(app)

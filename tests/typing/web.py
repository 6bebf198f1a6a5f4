"""The types of limits in web apps. Read by type checkers, never run."""

from __future__ import annotations

from typing import Annotated, assert_type
from wsgiref.types import WSGIApplication

import aiohttp
import httpx
import requests
from fastapi import Depends, FastAPI, Request
from flask import Blueprint, Flask
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse

from headgate import AsyncLimiter, Decision, Limiter
from headgate.clients import aiohttp as clients_aiohttp
from headgate.clients import httpx as clients_httpx
from headgate.clients import requests as clients_requests
from headgate.rules import Rule
from headgate.web import fastapi, flask, starlette, wsgi


def of_fastapi(app: FastAPI) -> None:
    limits = fastapi.RateLimits("100/minute", Rule("5/minute"), AsyncLimiter("1/s"), store="memory://", app=app)
    limits.limit(Limiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore
    limits.limit("5/minute", nme="a")  # type: ignore[call-arg]  # pyrefly: ignore
    limits.limit("5/minute", wait=b"1")  # type: ignore[arg-type]  # pyrefly: ignore
    fastapi.RateLimits(Limiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore
    fastapi.RateLimits("5/minute", stor="memory://")  # type: ignore[call-arg]  # pyrefly: ignore
    assert_type(limits.limit(["5/minute", "50/day"], key="ip", cost=2), fastapi.RouteLimit)
    app.add_middleware(fastapi.RateLimitMiddleware, "100/minute", store="memory://")

    @app.get("/", dependencies=[Depends(limits.limit(AsyncLimiter("5/minute")))])
    async def index(decision: Annotated[Decision, Depends(limits.limit("5/minute"))]) -> int:
        return decision.remaining


def of_starlette(app: Starlette) -> None:
    limits = starlette.RateLimits("100/minute", app=app)
    limits.limit(Limiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore

    @limits.limit("5/minute", key=lambda request: str(request.client))
    async def index(request: StarletteRequest) -> PlainTextResponse:
        assert_type(limits.decision(request), Decision | None)
        return PlainTextResponse("index")

    @limits.exempt
    def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    assert_type(health(Request({})), PlainTextResponse)


def of_flask(app: Flask, blueprint: Blueprint) -> None:
    limits = flask.RateLimits("100/minute", Rule("5/minute"), Limiter("1/s"), store="memory://", app=app)
    limits.limit(AsyncLimiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore
    limits.limit("5/minute", nme="a")  # type: ignore[call-arg]  # pyrefly: ignore
    flask.RateLimits(AsyncLimiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore
    flask.RateLimits("5/minute", stor="memory://")  # type: ignore[call-arg]  # pyrefly: ignore
    assert_type(limits.limit_blueprint(blueprint, "5/minute", name="api"), Blueprint)
    assert_type(limits.decision, Decision | None)

    @app.get("/")
    @limits.limit(["5/minute", "50/day"], key="ip", cost=2)
    def index(number: int) -> str:
        return str(number)

    @limits.exempt
    def health() -> str:
        return "fine"

    assert_type(index(5), str)
    assert_type(health(), str)


def of_wsgi(app: WSGIApplication) -> None:
    limits = wsgi.RateLimits("100/minute", Limiter("1/s"))
    limited: WSGIApplication = limits.middleware(app)
    wsgi.RateLimitMiddleware(limited, "5/minute", store="memory://")
    wsgi.RateLimitMiddleware(app, AsyncLimiter("5/minute"))  # type: ignore[arg-type]  # pyrefly: ignore


def of_clients() -> None:
    httpx.Client(transport=clients_httpx.RateLimitTransport("5/second", httpx.HTTPTransport(), key="all", retries=2))
    httpx.Client(transport=clients_httpx.RateLimitTransport(Limiter("5/second"), cost=lambda _: 2))
    httpx.AsyncClient(transport=clients_httpx.AsyncRateLimitTransport(AsyncLimiter("5/second")))
    clients_httpx.RateLimitTransport(AsyncLimiter("5/second"))  # type: ignore[arg-type]  # pyrefly: ignore
    clients_httpx.RateLimitTransport("5/second", tries=2)  # type: ignore[call-arg]  # pyrefly: ignore
    clients_httpx.RateLimitTransport("5/second", heed="yes")  # type: ignore[arg-type]  # pyrefly: ignore
    requests.Session().mount("https://", clients_requests.RateLimitAdapter(["5/second", "50/hour"], timeout=5))
    limits = clients_aiohttp.RateLimitMiddleware({"host": "5/second"}, heed=lambda _: 5.0)
    aiohttp.ClientSession(middlewares=(limits,))

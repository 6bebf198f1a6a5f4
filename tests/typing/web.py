"""The types of limits in web apps. Read by type checkers, never run."""

from __future__ import annotations

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse

from headgate import AsyncLimiter, Decision, Limiter
from headgate.rules import Rule
from headgate.web import fastapi, starlette


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

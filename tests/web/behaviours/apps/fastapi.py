"""The app of FastAPI: dependencies, on routes of included routers and of an app that is mounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import fastapi
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

from headgate.web.fastapi import RateLimits
from tests.web.behaviours.apps.starlette import header, response_of
from tests.web.behaviours.description import APP_RULES, DEFAULT, Asked, Route, options, routes


async def on_denied(request: Request, decision: Any) -> fastapi.Response | None:
    return None if header(request, "x-own") is None else PlainTextResponse("own", status_code=402)


app = FastAPI()
limits = RateLimits(DEFAULT, *APP_RULES, on_denied=on_denied, app=app, **options(header))


def endpoint(route: Route) -> Callable[..., Any]:
    async def index(request: Request) -> fastapi.Response:
        await asyncio.sleep(route.takes_s)
        return response_of(route.reply(Asked(request.method, request.headers.get)))

    def value() -> str:
        time.sleep(route.takes_s)
        return route.url

    found: Callable[..., Any] = value if route.answers == "value" else index
    return limits.exempt(found) if route.is_exempt else found


def add(router: FastAPI | APIRouter, under: str) -> None:
    for route in routes(header):
        if route.under == under:
            router.add_api_route(
                route.path,
                endpoint(route),
                methods=list(route.methods),
                dependencies=[Depends(limits.limit(rule)) for rule in route.rules],
            )


outer, inner, mounted = APIRouter(prefix="/outer"), APIRouter(prefix="/inner"), FastAPI()
add(app, "app")
add(inner, "router")
add(mounted, "mount")
outer.include_router(inner)
app.include_router(outer)
app.mount("/mount", mounted)

"""The route that is found beforehand is the one that is taken: for every path, every method, every kind of router."""

from __future__ import annotations

import itertools
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from headgate.web.starlette_routes import every, find, name_in

SEGMENTS = ("", "a", "b", "1", "v1", "x/y", "A", "%2F")
METHODS = ("GET", "HEAD", "POST", "DELETE", "PURGE")


class Taken:
    """Notes which endpoint has answered, and what its route was called."""

    def __init__(self) -> None:
        self.endpoint: Any = None
        self.name = ""
        self.root: Any = None

    def endpoint_of(self, name: str) -> Any:
        async def endpoint(request: Request) -> PlainTextResponse:
            self.endpoint = endpoint
            self.name = name_in(request.scope, self.root, "")
            return PlainTextResponse(name)

        endpoint.__name__ = "handler"  # all of one name
        return endpoint


def fastapi_app(taken: Taken) -> FastAPI:
    app, mounted = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    outer, inner, late = APIRouter(prefix="/v1"), APIRouter(prefix="/b"), APIRouter(prefix="/late")
    for router in (app, outer, inner, mounted, late):
        router.get("/a")(taken.endpoint_of("a"))
        router.post("/a")(taken.endpoint_of("post a"))
        router.get("/{id:int}")(taken.endpoint_of("int"))
        router.get("/slash/")(taken.endpoint_of("slash"))
        router.delete("/{anything}")(taken.endpoint_of("anything"))
    app.include_router(late, prefix="/b")
    outer.include_router(inner)
    outer.mount("/1", Starlette(routes=[Route("/a", taken.endpoint_of("in a router"))]))
    app.include_router(outer)
    app.include_router(inner, prefix="/1")
    app.mount("/a/{tenant}", mounted)
    app.get("/{path:path}")(taken.endpoint_of("rest"))
    return app


def starlette_app(taken: Taken) -> Starlette:
    inner = [Route("/a", taken.endpoint_of("a"), methods=["GET", "POST"]), Route("/{id:int}", taken.endpoint_of("int"))]
    return Starlette(
        routes=[
            *inner,
            Mount("/v1", routes=[*inner, Mount("/b", Router([Route("/{x:path}", taken.endpoint_of("path"))]))]),
            Mount("/b/{tenant}", Starlette(routes=inner)),
            Route("/b/{x}/{y}", taken.endpoint_of("behind a mount")),
        ]
    )


async def walk(app: Any, taken: Taken) -> int:
    taken.root = app
    count = 0

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None: ...

    for depth, method in itertools.product(range(1, 4), METHODS):
        for segments in itertools.product(SEGMENTS, repeat=depth):
            path = "/" + "/".join(segments)
            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "root_path": "",
                "headers": [],
                "query_string": b"",
            }
            found = find(app.routes, {**scope})
            taken.endpoint = None
            await app({**scope, "app": app}, receive, send)
            assert (found.endpoint if found else None) is taken.endpoint, f"{method} {path}"
            if found is not None:
                assert taken.name == found.name, f"{method} {path}"
                count += 1
    return count


async def test_routes_of_fastapi_are_found_as_they_are_taken() -> None:
    taken = Taken()
    assert await walk(fastapi_app(taken), taken) > 500


async def test_routes_of_starlette_are_found_as_they_are_taken() -> None:
    taken = Taken()
    assert await walk(starlette_app(taken), taken) > 50


def test_all_routes_are_listed_with_their_mounts_and_prefixes() -> None:
    names = [route.name for route in every(fastapi_app(Taken()).routes)]
    assert {"GET /a", "POST /a", "GET /v1/b/a", "GET /1/a", "GET /a/{tenant}/a", "DELETE /b/late/{anything}"} <= {
        *names
    }
    assert len(names) == len(set(names)) == 5 * 6 + 2

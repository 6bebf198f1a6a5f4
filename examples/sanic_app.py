"""An app of Sanic behind its limits, under a server of ASGI. Sanic's own server speaks no ASGI, and has no limits.

uvicorn --app-dir examples sanic_app:app                                     (each process by itself)
REDIS_URL=redis://localhost:6379/0 uvicorn --app-dir examples sanic_app:app  (shared by all processes)
"""

from __future__ import annotations

import os

from sanic import HTTPResponse, Request, Sanic, json, text

from headgate.rules import Rule
from headgate.web.asgi import RateLimitMiddleware

routed = Sanic("example")


@routed.get("/")
async def index(request: Request) -> HTTPResponse:
    return json({"hello": "world"})


@routed.post("/login")
async def login(request: Request) -> HTTPResponse:
    return json({"token": "..."})


@routed.route("/reports/<number:int>", methods=["GET", "HEAD"])
async def report(request: Request, number: int) -> HTTPResponse:
    return text(f"report {number}")


@routed.get("/health")
async def health(request: Request) -> HTTPResponse:
    return text("fine")


app = RateLimitMiddleware(
    routed,
    "100/minute",
    Rule("2/minute", name="login", paths=["/login"], methods=["POST"], key="ip"),
    Rule("10/minute", name="reports", paths=["/reports/{number}"], cost=5),
    store=os.environ.get("REDIS_URL", "memory://"),
    name="sanic-example",
    exempt=["/health"],
)

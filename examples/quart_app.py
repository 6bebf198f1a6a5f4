"""An app of Quart behind its limits.

uvicorn --app-dir examples quart_app:app                                     (each process by itself)
REDIS_URL=redis://localhost:6379/0 uvicorn --app-dir examples quart_app:app  (shared by all processes)
"""

from __future__ import annotations

import os

from quart import Quart

from headgate.rules import Rule
from headgate.web.asgi import RateLimitMiddleware

app = Quart(__name__)


@app.get("/")
async def index() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
async def login() -> dict[str, str]:
    return {"token": "..."}


@app.get("/reports/<int:number>")
async def report(number: int) -> str:
    return f"report {number}"


@app.get("/health")
async def health() -> str:
    return "fine"


app.asgi_app = RateLimitMiddleware(  # type: ignore[method-assign,assignment]  # as Quart's pages say
    app.asgi_app,
    "100/minute",
    Rule("2/minute", name="login", paths=["/login"], methods=["POST"], key="ip"),
    Rule("10/minute", name="reports", paths=["/reports/{number}"], cost=5),
    store=os.environ.get("REDIS_URL", "memory://"),
    name="quart-example",
    exempt=["/health"],
)

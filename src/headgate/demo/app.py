"""The demo's web app: two limited routes, one that tells a caller where they stand, and a health check.

Run it with `python -m headgate.demo.app`. It reads these environment variables:

    PORT            where to listen (8080)
    HOST            on which address (127.0.0.1)
    LISTEN_FD       a listening socket inherited from the parent, instead of HOST and PORT
    REDIS_URL       the store (redis://127.0.0.1:6379/0)
    REDIS_PASSWORD  the store's password, where REDIS_URL holds none
    LIMIT           requests per caller ("10/minute")
    INSTANCE        this instance's name ("instance-<port>")

The app must not know who started it, nor that there are other instances: the store is all they share.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from headgate import AsyncLimiter, Decision, HeadgateError, parse_limit
from headgate.demo import LIMIT
from headgate.demo.address import store_url
from headgate.demo.request_log import RequestLog

USER_ID = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
STORE_TIMEOUT = 2.0
"""In seconds. Longer than the library's own default: a laptop that starts four processes is busy."""

API_KEY = re.compile(r"[\x21-\x7e]{1,256}")

router = APIRouter()


class RefusedError(Exception):
    """A request that is answered with an error: the status, the body and the headers to answer with."""

    def __init__(self, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def the_caller(request: Request) -> str:
    """Say whose limit a request counts against: the API key's, the user's, or else the address's.

    An API key is a secret, so only its hash goes into the store and the log.
    """
    for header, pattern in (("x-api-key", API_KEY), ("x-user-id", USER_ID)):
        values = request.headers.getlist(header)
        if not values:
            continue
        if len(values) > 1 or not pattern.fullmatch(values[0]):
            raise RefusedError(400, {"error": "bad_identity", "detail": f"{header}: one value, {pattern.pattern}"})
        if header == "x-api-key":
            caller = "api-key:" + hashlib.sha256(values[0].encode()).hexdigest()[:32]
        else:
            caller = "user:" + values[0]
        break
    else:
        caller = f"ip:{request.client.host}" if request.client else "ip:unknown"
    request.state.user = caller
    return caller


def the_limiter(request: Request) -> AsyncLimiter:
    """Find the limiter that the app made when it started."""
    return cast("AsyncLimiter", request.app.state.limiter)


Caller = Annotated[str, Depends(the_caller)]
Limiter = Annotated[AsyncLimiter, Depends(the_limiter)]


def refuse_in_outage(decision: Decision, instance: str) -> None:
    """Answer 503 where the store did not answer: nobody is let in uncounted."""
    if decision.source == "fail_closed":
        body = {"error": "store_unavailable", "detail": "The store does not answer.", "instance": instance}
        raise RefusedError(503, body, {"Retry-After": "1"})


async def spend(request: Request, response: Response, caller: Caller, limiter: Limiter) -> Decision:
    """Spend one token of the caller's, or refuse the request."""
    decision = await limiter.try_acquire(caller)
    request.state.allowed = decision.allowed
    refuse_in_outage(decision, request.app.state.instance)
    request.state.remaining = decision.remaining
    headers = decision.headers(style="legacy")
    if not decision.allowed:
        body = {
            "error": "rate_limited",
            "detail": f"Limit {request.app.state.limit} reached. Try again in {decision.retry_after:.1f} s.",
            "instance": request.app.state.instance,
            "user": caller,
            "limit": decision.limit,
            "remaining": decision.remaining,
            "retry_after": decision.retry_after,
        }
        raise RefusedError(429, body, headers)
    response.headers.update(headers)
    return decision


Spent = Annotated[Decision, Depends(spend)]


@router.get("/health")
async def health(request: Request, limiter: Limiter) -> dict[str, str]:
    """Say that this instance runs, and whether the store answers it. Never limited."""
    decision = await limiter.peek("health")
    store = "down" if decision.source == "fail_closed" else "up"
    return {"status": "ok", "instance": request.app.state.instance, "store": store}


@router.get("/api/data")
async def data(request: Request, caller: Caller, spent: Spent) -> dict[str, Any]:
    """Give some data, to those within their limit."""
    return {
        "data": "water",
        "instance": request.app.state.instance,
        "user": caller,
        "remaining": spent.remaining,
    }


@router.get("/v1/hello")
async def hello(request: Request, caller: Caller, spent: Spent) -> dict[str, Any]:
    """Greet those within their limit."""
    return {
        "message": f"Hello, {caller}!",
        "instance": request.app.state.instance,
        "remaining": spent.remaining,
    }


@router.get("/api/status")
async def status(request: Request, response: Response, caller: Caller, limiter: Limiter) -> dict[str, Any]:
    """Tell callers where they stand, without spending anything."""
    decision = await limiter.peek(caller)
    refuse_in_outage(decision, request.app.state.instance)
    request.state.remaining = decision.remaining
    response.headers.update(decision.headers(style="legacy"))
    return {
        "instance": request.app.state.instance,
        "user": caller,
        "policy": request.app.state.limit,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
        "reset_after": decision.reset_after,
    }


async def answer_refusal(request: Request, refusal: Exception) -> Response:
    """Turn a refusal into its response."""
    assert isinstance(refusal, RefusedError)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def create_app(*, store: str = "redis://127.0.0.1:6379/0", limit: str = LIMIT, instance: str = "instance") -> FastAPI:
    """Make the app. A limit or a store URL that is not understood raises here, not at the first request."""
    text = str(parse_limit(limit))
    timeout = None if store.startswith("memory:") else STORE_TIMEOUT  # memory has nothing to wait for
    limiter = AsyncLimiter(limit, store=store, name="api", on_outage="closed", timeout=timeout)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with limiter:
            yield

    app = FastAPI(title="headgate demo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.instance = instance
    app.state.limit = text
    app.state.limiter = limiter
    app.include_router(router)
    app.add_exception_handler(RefusedError, answer_refusal)
    app.add_middleware(RequestLog, instance=instance)
    return app


def port_of(environ: Mapping[str, str]) -> int:
    """Read and check PORT."""
    text = environ.get("PORT", "8080")
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)


def listening_socket(environ: Mapping[str, str]) -> socket.socket:
    """Take over the socket the parent opened, or open one on HOST and PORT."""
    if "LISTEN_FD" in environ:
        return socket.socket(fileno=int(environ["LISTEN_FD"]))
    host = environ.get("HOST", "127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port_of(environ)), family=family, backlog=512)


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve the app until a signal ends it."""
    try:
        app = create_app(
            store=store_url(environ.get("REDIS_URL", "127.0.0.1:6379/0"), environ.get("REDIS_PASSWORD")),
            limit=environ.get("LIMIT", LIMIT),
            instance=environ.get("INSTANCE") or f"instance-{port_of(environ)}",
        )
        listener = listening_socket(environ)
    except (HeadgateError, ValueError, OSError) as error:
        print(f"headgate demo app: {error}", file=sys.stderr)
        return 2
    # Nobody stands in front of the demo, so no proxy's word about the caller's address is believed.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, proxy_headers=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())

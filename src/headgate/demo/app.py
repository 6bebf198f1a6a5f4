"""The demo's web app: two limited routes, one that tells a caller where they stand, a health check and metrics.

Run it with `python -m headgate.demo.app`. Its limits are in `headgate.toml`, beside this file: edit it while
the app runs, and see. It reads these environment variables:

    PORT            where to listen (8080)
    HOST            on which address (127.0.0.1)
    LISTEN_FD       a listening socket inherited from the parent, instead of HOST and PORT
    REDIS_URL       the store (redis://127.0.0.1:6379/0)
    REDIS_PASSWORD  the store's password, where REDIS_URL holds none
    LIMIT           requests per caller ("10/minute"), for headgate.toml
    INSTANCE        this instance's name ("instance-<port>")

The app must not know who started it, nor that there are other instances: the store is all they share.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, make_asgi_app

from headgate import Decision, HeadgateError
from headgate.demo.address import store_url
from headgate.demo.request_log import RequestLog
from headgate.observe.prometheus import expose
from headgate.web.fastapi import RateLimits

CONFIG = Path(__file__).with_name("headgate.toml")
STORE_TIMEOUT = 2.0
"""In seconds. Longer than the library's own default: a laptop that starts four processes is busy."""

router = APIRouter()


def limits_of(request: Request) -> RateLimits:
    """The limits of the app."""
    limits: RateLimits = request.app.state.limits
    return limits


def policy_of(limits: RateLimits) -> str:
    """The limit of the rule `api`, as it is now."""
    (rule,) = (rule for rule in limits.rules.all if rule.name == "api")
    return ", ".join(str(limit) for limit in rule.named_limits().values())


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Say that this instance runs, and whether the store answers it. Never limited."""
    standing = (await limits_of(request).peek(request.scope, "api")).decision
    store = "up" if standing is not None and standing.source == "store" else "down"
    return {"status": "ok", "instance": request.app.state.instance, "store": store}


@router.get("/api/data")
async def data(request: Request) -> dict[str, Any]:
    """Give some data, to those within their limit."""
    decision = decided(request)
    return {
        "data": "water",
        "instance": request.app.state.instance,
        "user": decision.key,
        "remaining": decision.remaining,
    }


@router.get("/v1/hello")
async def hello(request: Request) -> dict[str, Any]:
    """Greet those within their limit."""
    decision = decided(request)
    return {
        "message": f"Hello, {decision.key}!",
        "instance": request.app.state.instance,
        "remaining": decision.remaining,
    }


@router.get("/api/status")
async def status(request: Request, response: Response) -> Any:
    """Tell callers where they stand, without spending anything."""
    limits = limits_of(request)
    admission = await limits.peek(request.scope, "api")
    standing = admission.decision
    assert standing is not None
    if standing.source != "store":
        return denied(request, standing)
    response.headers.update(dict(limits.limiter.fields(admission)))
    return {
        "instance": request.app.state.instance,
        "user": standing.key,
        "policy": policy_of(limits),
        "limit": standing.limit,
        "remaining": standing.remaining,
        "retry_after": standing.retry_after,
        "reset_after": standing.reset_after,
    }


def decided(request: Request) -> Decision:
    """The decision that let a request through."""
    decision = limits_of(request).decision_of(request)
    assert decision is not None
    return decision


def denied(request: Request, decision: Decision) -> Response:
    """The demo's own answer to a request that is refused; its headers are added by the limits."""
    instance = request.app.state.instance
    if decision.source not in ("store", "memory_of_denial"):  # nobody is let in uncounted
        body = {"error": "store_unavailable", "detail": "The store does not answer.", "instance": instance}
        return JSONResponse(body, 503, {"Retry-After": "1"})
    policy = policy_of(limits_of(request))
    body = {
        "error": "rate_limited",
        "detail": f"Limit {policy} reached. Try again in {decision.retry_after:.1f} s.",
        "instance": instance,
        "user": decision.key,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
    }
    return JSONResponse(body, 429)


def create_app(*, store: str = "redis://127.0.0.1:6379/0", instance: str = "instance") -> FastAPI:
    """Make the app. A file or a store URL that is not understood raises here, not at the first request."""
    timeout = None if store.startswith("memory:") else STORE_TIMEOUT  # memory has nothing to wait for
    limits = RateLimits(config=CONFIG, store=store, timeout=timeout, on_denied=denied)
    registry = CollectorRegistry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = expose(registry)
        yield
        stop()
        await limits.limiter.aclose()

    app = FastAPI(title="headgate demo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.instance = instance
    app.state.limits = limits
    app.include_router(router)
    app.mount("/metrics", make_asgi_app(registry))
    limits.init_app(app)
    app.add_middleware(RequestLog, instance=instance, limits=limits)
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

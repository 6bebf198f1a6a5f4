"""One line of JSON on stdout for each request the demo app answers.

An ASGI wrapper. It reads what was decided about the request, and knows nothing of the routes. Paths are logged without
their query, and no header is.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.web.fastapi import RateLimits


class RequestLog:
    """Wraps an ASGI app and writes the log."""

    def __init__(self, app: ASGIApp, instance: str, limits: RateLimits) -> None:
        self.app = app
        self.limits = limits
        self.instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and write its line when its answer is complete."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter_ns()
        status: int | None = None
        is_written = False

        def write() -> None:
            nonlocal is_written
            if not is_written:
                is_written = True
                self.write(scope, status, time.perf_counter_ns() - started)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                write()  # before the caller has the answer, who may look for the line
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            write()

    def write(self, scope: Scope, status: int | None, duration_ns: int) -> None:
        """Write one request's line."""
        decision = self.limits.decision_of(HTTPConnection(scope))
        line = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "instance": self.instance,
            "method": scope["method"],
            "path": scope["path"],
            "user": None if decision is None else decision.key,
            "allowed": None if decision is None else decision.allowed,
            "remaining": None if decision is None else decision.remaining,
            "status": status,
            "duration_ms": round(duration_ns / 1e6, 3),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

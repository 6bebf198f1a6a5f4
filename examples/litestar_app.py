"""An app of Litestar behind its limits.

uvicorn --app-dir examples litestar_app:app                                     (each process by itself)
REDIS_URL=redis://localhost:6379/0 uvicorn --app-dir examples litestar_app:app  (shared by all processes)
"""

from __future__ import annotations

import os
from typing import Any

from litestar import Controller, Litestar, Request, delete, get, post
from litestar.params import FromPath

from headgate.web.litestar import RateLimits

limits = RateLimits("100/minute", store=os.environ.get("REDIS_URL", "memory://"), name="litestar-example")


@get("/")
async def index() -> dict[str, str]:
    return {"hello": "world"}


@limits.limit("2/minute", key="ip")
@post("/login", status_code=200)
async def login() -> dict[str, str]:
    return {"token": "..."}


@limits.exempt
@get("/health")
async def health() -> str:
    return "fine"


@limits.limit("10/minute", name="reports", cost=5)
class Reports(Controller):
    path = "/reports/{number:int}"

    @get()
    async def show(self, number: FromPath[int], request: Request[Any, Any, Any]) -> str:
        decision = limits.decision_of(request)
        return f"report {number}, {decision.remaining if decision else 'any number of'} left"

    @limits.limit("1/hour")
    @delete(status_code=200)
    async def remove(self, number: FromPath[int]) -> str:
        return f"report {number} is gone"


app = Litestar([index, login, health, Reports], plugins=[limits])

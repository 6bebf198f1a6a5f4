"""An app of FastAPI behind its limits.

uvicorn --app-dir examples fastapi_app:app                                     (each process by itself)
REDIS_URL=redis://localhost:6379/0 uvicorn --app-dir examples fastapi_app:app  (shared by all processes)
"""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI

from headgate import Decision
from headgate.web.fastapi import RateLimits

app = FastAPI()
limits = RateLimits("100/minute", store=os.environ.get("REDIS_URL", "memory://"), name="fastapi-example", app=app)


@app.get("/")
def index() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login", dependencies=[Depends(limits.limit("2/minute", key="ip"))])
async def login() -> dict[str, str]:
    return {"token": "..."}


Report = Annotated[Decision, Depends(limits.limit("10/minute", name="reports", cost=5))]


@app.get("/reports/{number}")
async def report(number: int, decision: Report) -> dict[str, int]:
    return {"number": number, "left": decision.remaining}


@app.get("/health")
@limits.exempt
async def health() -> str:
    return "fine"


admin = APIRouter(prefix="/admin", dependencies=[Depends(limits.limit("1/minute"))])


@admin.get("/users")
async def users() -> list[str]:
    return ["ann"]


app.include_router(admin)

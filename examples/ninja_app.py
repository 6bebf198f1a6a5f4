"""A project of django-ninja in one file, behind its limits: those for all, and those of operations.

gunicorn --chdir examples ninja_app:application                                     (each worker by itself)
REDIS_URL=redis://localhost:6379/0 gunicorn --chdir examples ninja_app:application  (shared by all workers)
"""

from __future__ import annotations

import os

from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "a secret of at least fifty characters, in an example only"),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["headgate.web.django"],
    MIDDLEWARE=["headgate.web.django.RateLimitMiddleware"],
    HEADGATE={"limits": ["100/minute"], "store": os.environ.get("REDIS_URL", "memory://"), "name": "ninja-example"},
)

from django.core.asgi import get_asgi_application  # noqa: E402 - settings come first
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import NinjaAPI, Router  # noqa: E402

from headgate.web.django import exempt, limit  # noqa: E402

api, reports = NinjaAPI(), Router()


@api.get("/")
def index(request: HttpRequest) -> dict[str, str]:
    return {"hello": "world"}


@api.post("/login")
@limit("2/minute", key="ip")
def login(request: HttpRequest) -> dict[str, str]:
    return {"token": "..."}


@reports.api_operation(["GET", "HEAD"], "/{number}")
@limit("10/minute", name="reports", cost=5)
async def report(request: HttpRequest, number: int) -> str:
    return f"report {number}"


@api.get("/health")
@exempt
def health(request: HttpRequest) -> str:
    return "fine"


api.add_router("/reports", reports)
urlpatterns = [path("", api.urls)]
application = get_wsgi_application()
asgi = get_asgi_application()

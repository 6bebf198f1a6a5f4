"""A whole Django project in one file: limits for all, for one view, and for failed log-ins only.

Serve it with `gunicorn --chdir examples django_app:application`, or, in an event loop,
`uvicorn --app-dir examples django_app:asgi`; or list what is limited: `python examples/django_app.py`.
"""

import os
import sys

from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "a secret of at least fifty characters, in an example only"),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["headgate.web.django"],
    MIDDLEWARE=["headgate.web.django.RateLimitMiddleware"],
    HEADGATE={
        "limits": ["100/minute"],
        "store": os.environ.get("REDIS_URL", "memory://"),
        "prefix": os.environ.get("HEADGATE_PREFIX") if "REDIS_URL" in os.environ else None,
    },
)

from django.core.asgi import get_asgi_application  # noqa: E402 - settings come first
from django.core.management import execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from headgate.web.django import exempt, limit  # noqa: E402


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"remaining": request.headgate.decision.remaining})  # type: ignore[attr-defined]


@limit("2/minute")
async def search(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"found": []})


@limit("2/minute", name="login", charge_when=lambda response: response.status_code == 401)
def login(request: HttpRequest) -> HttpResponse:
    is_right = request.GET.get("password") == "open sesame"
    return HttpResponse("Welcome" if is_right else "Wrong", status=200 if is_right else 401)


@exempt
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("", home), path("search", search), path("login", login), path("health", health)]
application = get_wsgi_application()
asgi = get_asgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv if len(sys.argv) > 1 else [*sys.argv, "headgate_limits"])

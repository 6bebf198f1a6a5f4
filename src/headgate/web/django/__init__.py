"""Django: a middleware, a decorator for views, throttles for Django REST framework, checks and a command.

    INSTALLED_APPS = [..., "headgate.web.django"]
    MIDDLEWARE = [..., "headgate.web.django.RateLimitMiddleware"]
    HEADGATE = {"limits": ["100/minute"], "store": "redis://localhost:6379/0"}

This package may be imported before Django's settings are there.
"""

from __future__ import annotations

try:
    import django  # noqa: F401  # here, because the modules below import parts of it, and would not say what is missing
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("Django", "django") from error

from headgate.web.django.decorators import exempt, limit
from headgate.web.django.middleware import RateLimitMiddleware

__all__ = ["RateLimitMiddleware", "exempt", "limit"]

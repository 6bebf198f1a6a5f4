"""Django: a middleware, a decorator for views, throttles for Django REST framework, checks and a command.

    INSTALLED_APPS = [..., "headgate.web.django"]
    MIDDLEWARE = [..., "headgate.web.django.RateLimitMiddleware"]
    HEADGATE = {"limits": ["100/minute"], "store": "redis://localhost:6379/0"}

This package may be imported before Django's settings are there.
"""

from __future__ import annotations

from headgate.web.django.decorators import exempt, limit
from headgate.web.django.middleware import RateLimitMiddleware

__all__ = ["RateLimitMiddleware", "exempt", "limit"]

"""Flask: rate limits as an extension, and as a decorator of views, of their classes and of blueprints.

limits = RateLimits("100/minute", store="redis://localhost:6379/0", app=app)

@app.post("/login")
@limits.limit("5/minute")
def login(): ...

It decides when a request has been routed and all `before_request` functions have run, just before the view. The rules
of the app, of the blueprints and of the view are asked together.
"""

from __future__ import annotations

try:
    import flask as _flask  # noqa: F401 - to see whether it is there
except ModuleNotFoundError as error:
    from headgate.errors import MissingExtra

    raise MissingExtra("flask", "flask") from error

from headgate.web.flask.extension import RateLimits
from headgate.web.flask.of_app import FlaskLimits, RateLimitExceeded

__all__ = ["FlaskLimits", "RateLimitExceeded", "RateLimits"]

"""Any WSGI app behind its limits.

gunicorn --chdir examples wsgi_app:app                                     (each worker by itself)
REDIS_URL=redis://localhost:6379/0 gunicorn --chdir examples wsgi_app:app  (shared by all workers)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from headgate.rules import Rule
from headgate.web.wsgi import RateLimitMiddleware


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\n"]


app = RateLimitMiddleware(
    hello,
    "100/minute",
    Rule("2/minute", name="login", paths=["/login"], methods=["POST"]),
    store=os.environ.get("REDIS_URL", "memory://"),
    name="wsgi-example",
    exempt=["/health"],
)

"""An app of Falcon behind its limits, under WSGI; for `falcon.asgi.App` the middleware is that of `headgate.web.asgi`.

gunicorn --chdir examples falcon_app:app                                     (each worker by itself)
REDIS_URL=redis://localhost:6379/0 gunicorn --chdir examples falcon_app:app  (shared by all workers)
"""

from __future__ import annotations

import os

import falcon

from headgate.rules import Rule
from headgate.web.wsgi import RateLimitMiddleware


class Index:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"hello": "world"}


class Login:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"token": "..."}


class Report:
    def on_get(self, request: falcon.Request, response: falcon.Response, number: int) -> None:
        response.text = f"report {number}"

    on_head = on_get


class Health:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = "fine"


routed = falcon.App()
routed.add_route("/", Index())
routed.add_route("/login", Login())
routed.add_route("/reports/{number:int}", Report())
routed.add_route("/health", Health())

app = RateLimitMiddleware(
    routed,
    "100/minute",
    Rule("2/minute", name="login", paths=["/login"], methods=["POST"], key="ip"),
    Rule("10/minute", name="reports", paths=["/reports/{number}"], cost=5),
    store=os.environ.get("REDIS_URL", "memory://"),
    name="falcon-example",
    exempt=["/health"],
)

"""An app that counts in several processes, for gunicorn: `/` is limited, and `/metrics` adds the processes up."""

from __future__ import annotations

import os
import time

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from headgate.observe.prometheus import expose
from headgate.web.flask import RateLimits

app = Flask(__name__)
RateLimits("20/hour", store=os.environ["REDIS_URL"], name="metered", exempt=["/metrics"], app=app)
expose()


@app.get("/")
def index() -> str:
    time.sleep(0.02)  # long enough for the other process to take the next one
    return str(os.getpid())


@app.get("/metrics")
def metrics() -> Response:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # theirs has no types
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

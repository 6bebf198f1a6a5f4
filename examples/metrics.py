"""Metrics for Prometheus: who is denied, how long a decision takes.

A web app shows them at `/metrics`: `app.mount("/metrics", prometheus_client.make_asgi_app())`, say.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from headgate import Limiter
from headgate.observe.prometheus import expose


def main() -> None:
    registry = CollectorRegistry()
    stop = expose(registry)

    signup = Limiter("2/minute", name="signup")
    api = Limiter({"user": "5/minute", "everybody": "9/minute"}, name="api")
    for _ in range(4):
        signup.try_acquire("ip:203.0.113.7")
    for user in ("ann", "bob", "cid"):
        for _ in range(4):
            api.try_acquire({"user": user, "everybody": "*"})

    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("headgate_decisions_total"):
            print(line)
    stop()


if __name__ == "__main__":
    main()

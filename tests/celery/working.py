"""The tasks that real workers run: `python -m celery -A tests.celery.working worker`. What runs is written down in the
server, under the name of whoever sent it."""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from celery import Celery

from headgate.celery import DENIALS, limit_task

URL = os.environ.get("HEADGATE_WORKING_URL", "redis://127.0.0.1:1/0")
PREFIX = os.environ.get("HEADGATE_WORKING_PREFIX", "nobody")
SHARED: Any = {"store": URL, "max_wait": 0.5, "jitter": 0.1}

app = Celery("working", broker=URL, backend=URL)
app.conf.update(
    broker_transport_options={"global_keyprefix": f"{PREFIX}:"},
    result_backend_transport_options={"global_keyprefix": f"{PREFIX}:"},
    task_default_queue=PREFIX,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=2,
)


def who_asks(*arguments: Any) -> str:
    """The key: the name of a test. Each time that it is asked for is written down."""
    who: str = next(one for one in arguments if isinstance(one, str))
    with redis.Redis.from_url(URL) as server:
        server.incr(f"{PREFIX}:asked:{who}")
    return f"{PREFIX}:{who}"


def count(who: str, texts: list[str]) -> int:
    return len(texts)


def ran(who: str, what: object) -> None:
    with redis.Redis.from_url(URL) as server:
        server.rpush(f"{PREFIX}:ran:{who}", str(what))


# Not shared: other apps in this process, of other tests, are not to have these tasks.
@app.task(shared=False)
@limit_task("5/day", key=who_asks, name="few", **SHARED)
def few(who: str, number: int) -> int:
    ran(who, number)
    return number


@app.task(shared=False, acks_late=True, bind=True)
@limit_task("5/day", key=who_asks, name="few late", **SHARED)
def few_late(self: Any, who: str, number: int) -> int:
    ran(who, number)
    return number


@app.task(shared=False)
def free(who: str) -> None:
    ran(who, "free")


@app.task(shared=False, bind=True, max_retries=1)
@limit_task("1/day", key=who_asks, name="retrying", **SHARED)
def retrying(self: Any, who: str) -> int:
    ran(who, self.request.retries)
    denials: int = self.request.headers[DENIALS] if self.request.headers else 0
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return denials


@app.task(shared=False)
@limit_task("concurrency 2", key=who_asks, name="slots", **SHARED)
def held(who: str) -> None:
    with redis.Redis.from_url(URL) as server:
        at_work = server.incr(f"{PREFIX}:at-work:{who}")
        time.sleep(0.05)  # work takes a while
        server.decr(f"{PREFIX}:at-work:{who}")
    ran(who, at_work)


@app.task(shared=False)
@limit_task(["10/day", "1000/7d"], key=who_asks, cost=count, name="texts", **SHARED)
def embed(who: str, texts: list[str]) -> int:
    ran(who, len(texts))
    return len(texts)


@app.task(shared=False)
@limit_task("1/day", key=who_asks, max_denials=2, name="given up", **SHARED)
def given_up(who: str) -> None:
    ran(who, "given up")


@app.task(shared=False)
@limit_task("1/day", key=who_asks, is_shadow=True, name="shadow", **SHARED)
def watched(who: str) -> None:
    ran(who, "watched")

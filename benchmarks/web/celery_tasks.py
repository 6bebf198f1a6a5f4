"""Tasks of Celery that do nothing, run by a worker with one thread and a broker in memory, beside Celery's own
`rate_limit`, which each worker keeps for itself.

All tasks of a round wait in the worker's queue before it begins; so what sends them takes no time of theirs.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import Celery
from celery.contrib.testing.worker import start_worker

from benchmarks.web.apps import LIMIT, MANY
from benchmarks.web.measured import BARE, OURS, Pace, Rounds, shuffled
from headgate.celery import limit_task


def rounds(pace: Pace) -> Rounds:
    """Microseconds that a task takes in each round, with all that the worker does for it."""
    app = Celery("bench", broker="memory://", backend="cache+memory://")
    app.conf.update(
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=0,
        broker_transport_options={"polling_interval": 0.001},
    )
    is_open, is_over = threading.Event(), threading.Event()
    times: list[float] = []

    @app.task(shared=False)
    def wait() -> None:
        is_open.wait()

    def work(number: int) -> None:
        times.append(time.perf_counter())
        if number == pace.chunk:
            is_over.set()

    limited = limit_task(LIMIT, store="memory://", name="bench")(work)
    tasks: dict[str, Any] = {
        BARE: app.task(name=BARE, shared=False)(work),
        OURS: app.task(name=OURS, shared=False)(limited),
        "theirs": app.task(name="theirs", shared=False, rate_limit=f"{MANY}/s")(work),
    }
    taken: Rounds = {name: [] for name in tasks}
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="error"):
        for _ in range(pace.rounds):
            for name in shuffled(tasks):
                is_open.clear()
                is_over.clear()
                times.clear()
                wait.delay()
                for number in range(pace.chunk + 1):
                    tasks[name].delay(number)
                is_open.set()
                assert is_over.wait(60), f"{name}: the worker has stopped"
                taken[name].append((times[-1] - times[0]) / pace.chunk * 1e6)
    return taken

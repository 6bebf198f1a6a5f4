"""Tasks of Celery with a limit that all workers share: three mails a second for each customer.

A task that is denied goes back into the queue, to be taken up when the limit says; the worker goes on with others.
Here the worker is a thread, and the broker in memory; with a real one, `celery -A celery_tasks worker` starts workers.
"""

from __future__ import annotations

import os
import time
import uuid

from celery import Celery
from celery.contrib.testing.worker import start_worker

from headgate.celery import limit_task

STORE = os.environ.get("REDIS_URL", "memory://")
RUN = f"example-{uuid.uuid4()}"

app = Celery("mails", broker="memory://", backend="cache+memory://")
app.conf.update(task_default_queue=RUN, worker_hijack_root_logger=False)


@app.task(acks_late=True)
@limit_task("3/second", key=lambda customer, _: customer, store=STORE, name=RUN, jitter=0.2)
def send(customer: str, number: int) -> tuple[str, float]:
    """Send a mail."""
    return f"{customer} {number}", time.monotonic()


def main() -> None:
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR", shutdown_timeout=30):
        results = [send.delay(customer, number) for number in range(6) for customer in ("ada", "bob")]
        sent = sorted((result.get(timeout=25) for result in results), key=lambda one: one[1])
    first = sent[0][1]
    for mail, at in sent:
        print(f"{at - first:5.2f} s  {mail}")
    at_once = [mail for mail, at in sent if at - first < 0.3]
    print(f"\n{len(sent)} mails sent, {len(at_once)} of them at once")
    assert len(sent) == len({mail for mail, _ in sent}) == 12


if __name__ == "__main__":
    main()

"""Apps of one test each."""

from __future__ import annotations

import uuid
from typing import Any

from celery import Celery


class OwnApp(Celery):  # type: ignore[misc]  # it has no types
    """An app with a broker in memory, whose tasks no other app knows."""

    def __init__(self) -> None:
        super().__init__("here", broker="memory://", backend="cache+memory://", set_as_current=False)
        queue = str(uuid.uuid4())  # all apps share the broker in memory
        self.conf.update(worker_hijack_root_logger=False, task_default_queue=queue)

    def task(self, *args: Any, **options: Any) -> Any:
        return super().task(*args, **{"shared": False, **options})

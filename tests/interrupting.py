"""Exceptions that signal handlers raise in the main thread, at a moment of the test's choosing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.servers import eventually


class Interruption(BaseException):
    """What a signal handler raises, as some servers do to end a request that takes too long."""


@contextmanager
def interrupted_when(is_so: Callable[[], bool], *, after_seconds: float) -> Iterator[None]:
    """Raise `Interruption` in the main thread some time after something is so."""

    def interrupt(*_: object) -> None:
        raise Interruption

    def watch() -> None:
        eventually(is_so, "the main thread waits")
        time.sleep(after_seconds)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, former)

"""Threads of our own, which do something in the background, and keep no process and no interpreter from ending.

The main interpreter ends with daemon threads at work. A subinterpreter, such as mod_wsgi has, must not: so when an
interpreter ends, ours end before it.

This module must not know what they do.
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headgate.runtime.forks import begin_afresh_in_child

logger = logging.getLogger("headgate")

_END_WITHIN_S: Final = 1.0
_daemons: Final[weakref.WeakSet[Daemon]] = weakref.WeakSet()
_ending: Final[list[str]] = []
"""Not empty: the interpreter ends."""


class InterpreterEnds(Exception):  # it says what happens, and is no error
    """Ends what a thread of ours is doing."""


class Daemon:
    """A thread that works whenever it is started, unless it can be none. No lock: it may be rung while it is being
    rung.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self.begin()
        begin_afresh_in_child(self, Daemon.begin)

    def begin(self) -> None:
        """Begin afresh: in a forked process, the thread is not there."""
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Is it at work?"""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to work. Where the interpreter ends, or has no such threads, a line goes to the log, and that is
        all.
        """
        if _ending or sys.is_finalizing():  # it would never begin, and we would wait for that
            logger.info("headgate: the thread %s is not started, since the interpreter ends", self._name)
            return
        try:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            _daemons.add(self)
            self._thread = thread
            thread.start()
        except RuntimeError as error:
            logger.warning("headgate: the thread %s cannot be started: %s", self._name, error)

    def ring(self) -> None:
        """Wake the thread."""
        self._bell.put(None)

    def sleep(self, seconds: float) -> bool:
        """For the thread itself: sleep until it is rung, at most so long. False: it is to end."""
        if not _ending:
            with suppress(queue.Empty):
                self._bell.get(timeout=max(0.0, seconds))
        return not _ending

    def join(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(max(0.0, seconds))


def _end_all() -> None:
    _ending.append("the interpreter")
    daemons = list(_daemons)
    for daemon in daemons:
        daemon.ring()
    until = time.monotonic() + _END_WITHIN_S
    for daemon in daemons:
        daemon.join(until - time.monotonic())


atexit.register(_end_all)

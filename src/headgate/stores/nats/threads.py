"""An event loop in a thread of its own, for callers that block: nats-py knows no other way. There is one in a process,
begun when it is first needed.

No lock: a signal's handler may ask in the middle of a call. This module must not know what is asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child

T = TypeVar("T")
_END_WITHIN_S: Final = 0.5


class NotStarted(Exception):  # it says what happened
    """There is no such thread, and there can be none: the interpreter ends."""


class Overdue(Exception):  # it says what happened
    """There was no answer in time."""


class LoopThread(Daemon):
    """The event loop, and its thread. Safe to share between threads, signal handlers and forked processes."""

    _left: Final[list[asyncio.AbstractEventLoop]] = []
    """Those of parent processes. They are never closed: that would disturb the parent's."""

    def __init__(self) -> None:
        self._loops: dict[str, asyncio.AbstractEventLoop] = {}
        self._ident = 0
        super().__init__("headgate-nats", self._serve)
        begin_afresh_in_child(self, LoopThread.begin)

    def begin(self) -> None:
        super().begin()
        self._left.extend(self._loops.values())
        self._loops = {}
        self._ident = 0

    def _serve(self) -> None:
        loop = self._loops["loop"]
        self._ident = threading.get_ident()
        asyncio.set_event_loop(loop)
        loop.run_forever()
        with suppress(Exception):  # the interpreter ends
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), _END_WITHIN_S))
            loop.close()

    def ring(self) -> None:
        loop = self._loops.get("loop")
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(loop.stop)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop, if it was begun."""
        return self._loops.get("loop")

    def _begun(self) -> asyncio.AbstractEventLoop:
        loop = self._loops.get("loop")
        if loop is None:
            made = asyncio.new_event_loop()
            loop = self._loops.setdefault("loop", made)
            if loop is made:
                self.start()
            else:
                made.close()
        return loop

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], seconds: float, unseen: Callable[[T], object]) -> T:
        """Have some work done in the event loop, and wait for its result.

        :param seconds: how long to wait; then the work is cancelled.
        :param unseen: gets the result, in the event loop, if the caller was interrupted by a signal's handler that
            raised.
        :raises Overdue: if that was not long enough.
        :raises NotStarted: if there is no event loop; in its own thread, too, which must not wait for itself.
        """
        loop = self._begun()
        outcome = _Outcome(loop, work, unseen)
        if self._ident == threading.get_ident():
            raise NotStarted
        try:
            loop.call_soon_threadsafe(outcome.begin)
            is_done = outcome.done.acquire(timeout=seconds)
        except RuntimeError:
            raise NotStarted from None
        except BaseException:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome.abandon)
            raise
        if not is_done:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome.cancel)
            if not self.is_alive:
                self._loops.pop("loop", None)
                raise NotStarted
            raise Overdue
        return outcome.result()


class _Outcome(Generic[T]):
    """Some work, and what comes of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[], Coroutine[Any, Any, T]],
        unseen: Callable[[T], object],
    ) -> None:
        self._loop = loop
        self._work = work
        self._unseen = unseen
        self._task: asyncio.Task[T] | None = None
        self._is_abandoned = False
        self.done: Final = threading.Lock()
        """Held until it is."""
        self.done.acquire()

    def begin(self) -> None:
        if not self._is_abandoned:
            self._task = self._loop.create_task(self._work())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if self._is_abandoned:
            self._tell_unseen()
        self.done.release()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        """The caller is gone: the work goes on to its end, and the result is seen to."""
        self._is_abandoned = True
        if self._task is not None and self._task.done():
            self._tell_unseen()

    def _tell_unseen(self) -> None:
        task = self._task
        if task is not None and not task.cancelled() and task.exception() is None:
            self._unseen(task.result())

    def result(self) -> T:
        assert self._task is not None
        if self._task.cancelled():
            raise Overdue
        return self._task.result()


thread: Final = LoopThread()

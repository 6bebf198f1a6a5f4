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
from headgate.runtime.loops import start

T = TypeVar("T")
Begin = Callable[[Callable[[T | Exception], None]], Callable[[], object]]
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

    def run(self, begin: Begin[T], seconds: float, unseen: Callable[[T], object]) -> T:
        """Have some work done in the event loop, and wait for its result.

        :param begin: begins it there, with a function that gets the result, or an exception; what it returns gives it
            up.
        :param seconds: how long to wait; then the work is given up.
        :param unseen: gets the result, in the event loop, if the caller was interrupted by a signal's handler that
            raised.
        :raises Overdue: if that was not long enough.
        :raises NotStarted: if there is no event loop; in its own thread, too, which must not wait for itself.
        """
        loop = self._begun()
        outcome = _Outcome(begin, unseen)
        if self._ident == threading.get_ident():
            raise NotStarted
        try:
            loop.call_soon_threadsafe(outcome.begin)
            is_done = outcome.done.acquire(timeout=seconds)
        except BaseException as error:
            if isinstance(error, RuntimeError) and loop.is_closed():
                raise NotStarted from None
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome.abandon)
            raise
        if not is_done:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome.give_up)
            if not self.is_alive:
                self._loops.pop("loop", None)
                raise NotStarted
            raise Overdue
        return outcome.result()


class _Outcome(Generic[T]):
    """Some work, and what comes of it."""

    def __init__(self, begin: Begin[T], unseen: Callable[[T], object]) -> None:
        self._begin = begin
        self._unseen = unseen
        self._given_up: Callable[[], object] | None = None
        self._results: list[T | Exception] = []
        self._is_abandoned = False
        self.done: Final = threading.Lock()
        """Held until it is."""
        self.done.acquire()

    def begin(self) -> None:
        if not self._is_abandoned:
            try:
                self._given_up = self._begin(self._ended)
            except Exception as error:
                self._ended(error)

    def _ended(self, result: T | Exception) -> None:
        self._results.append(result)
        if self._is_abandoned:
            self._tell_unseen()
        self.done.release()

    def give_up(self) -> None:
        if self._given_up is not None and not self._results:
            self._given_up()

    def abandon(self) -> None:
        """The caller is gone: the work goes on to its end, and the result is seen to."""
        self._is_abandoned = True
        if self._results:
            self._tell_unseen()

    def _tell_unseen(self) -> None:
        (result,) = self._results
        if not isinstance(result, Exception):
            self._unseen(result)

    def result(self) -> T:
        (result,) = self._results
        if isinstance(result, Exception):
            raise result
        return result


def awaited(work: Callable[[], Coroutine[Any, Any, T]]) -> Begin[T]:
    """Make a coroutine something to begin."""

    def begin(arrive: Callable[[T | Exception], None]) -> Callable[[], object]:
        async def run() -> None:
            try:
                result: T | Exception = await work()
            except Exception as error:
                result = error
            arrive(result)

        return start(run()).cancel

    return begin


thread: Final = LoopThread()

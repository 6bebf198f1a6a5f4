"""What waits until it is our turn to write: a transaction, which a thread of ours does then, or a blocking caller,
which is brought the turn and does its transaction itself.

A caller that was brought a turn may go on with its next transactions for as long as a turn may last. Did the thread do
the first of them, others would have the file before the caller is awake. An event loop is brought none: it may be busy.

This module must not know what is written.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from headgate.runtime.daemons import Daemon
from headgate.stores.sqlite.connection import Connection
from headgate.stores.sqlite.turns import Places, Turns

T = TypeVar("T")

_IDLE_S: Final = 3600.0


class Pending(Generic[T]):
    """A transaction that waits for its turn.

    :param closings: how often the store had been closed when it came.
    """

    def __init__(
        self, transaction: Callable[[Connection], T], done: Callable[[T | Exception], None], closings: int
    ) -> None:
        self.transaction = transaction
        self.done = done
        self.closings = closings
        self.is_wanted = True

    def give_up(self) -> None:
        """Nobody waits for it any more: if it has not begun, it is not done."""
        self.is_wanted = False


class Request:
    """A blocking caller that waits to be brought a turn, or an outage. No lock: what is said first holds."""

    outage: Exception | None = None

    def __init__(self) -> None:
        self._brought: dict[str, list[Turns]] = {}
        self._woken = threading.Lock()
        self._woken.acquire()

    @property
    def is_wanted(self) -> bool:
        """Was nothing brought yet, and has nobody given up?"""
        return not self._brought

    def bring(self, taken: list[Turns]) -> bool:
        """Bring a turn that was taken, or none. False: nobody wants it any more."""
        is_wanted = self._brought.setdefault("turn", taken) is taken
        self.wake()
        return is_wanted

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to see, so long at most."""
        return self._woken.acquire(timeout=seconds)

    def wake(self) -> None:
        """End the waiting."""
        with suppress(RuntimeError):  # that is over
            self._woken.release()

    def brought(self) -> list[Turns]:
        """The turn that was brought; empty if there is none, and from now on there will be none. However often one
        asks, it is the same list: whoever ends the turn takes it out there.
        """
        return self._brought.setdefault("turn", [])


class Worker:
    """A thread that takes turns for those who wait.

    :param places: where it takes them.
    :param do: does a transaction, in turns at a place.
    :param end: is called when the interpreter ends.
    """

    def __init__(self, places: Places, do: Callable[[Turns, Pending[Any]], object], end: Callable[[], object]) -> None:
        self._places = places
        self._do = do
        self._end = end
        self._waiting: deque[Pending[Any] | Request] = deque()
        self._thread = Daemon("headgate-sqlite", self._work)
        self._starting: dict[str, object] = {}
        """Not empty while a thread starts ours. Taken in one step: there must be no two."""

    def enqueue(self, waits: Pending[Any] | Request) -> None:
        """Have somebody wait, behind those who came before."""
        self._waiting.append(waits)
        if not self._thread.is_alive:
            own = object()
            try:
                if self._starting.setdefault("own", own) is own and not self._thread.is_alive:
                    self._thread.start()
            finally:
                if self._starting.get("own") is own:
                    self._starting.clear()
        self._thread.ring()

    def _work(self) -> None:
        turns: Turns | None = None
        while self._thread.sleep(_IDLE_S):
            while self._waiting:
                waits = self._waiting.popleft()
                if not waits.is_wanted:
                    continue
                try:
                    turns = turns or self._places.get()
                    if isinstance(waits, Request):
                        turns.take()
                        if waits.bring([turns]):
                            turns = None
                        else:
                            turns.end()
                        continue
                    answer = self._do(turns, waits)
                except Exception as error:
                    answer = error
                    if isinstance(waits, Request):
                        waits.outage = error
                        waits.bring([])
                        continue
                if waits.is_wanted:
                    waits.done(answer)
        self._end()

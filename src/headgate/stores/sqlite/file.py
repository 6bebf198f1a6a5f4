"""How a batch comes to the file: by the caller itself if nobody else is writing, or else by a thread of the store's.

A batch takes some 20 microseconds, less than it takes to wake a thread; so whoever finds the file free does it there
and then, an event loop, too. Whoever finds that somebody else is writing leaves it to the thread, which can wait for
its turn: the system's locks know no deadline, and callers have one.

This module must not know what is written.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from headgate.batching import Arrive
from headgate.clock import system_clock
from headgate.decision import Answer
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child
from headgate.stores.remote import Endpoint, Terms
from headgate.stores.sqlite.connection import Busy, Connection

T = TypeVar("T")

MAX_GROUPS: Final = 32
"""How many groups are judged in one turn: more than as many hold up the others for too long."""
CHECKPOINT_EVERY: Final = 2000
"""After so many entries were written, what is in the log is carried into the file."""
_IDLE_S: Final = 3600.0

_left: Final[list[Connection]] = []
"""Of the parent of this forked process. They must not be closed here, nor by the garbage collector."""


class _Pending(Generic[T]):
    """Something that waits for its turn."""

    def __init__(self, transaction: Callable[[Connection], T], done: Callable[[T | Exception], None]) -> None:
        self.transaction = transaction
        self.done = done
        self.is_wanted = True

    def give_up(self) -> None:
        """Nobody waits for it any more: if it has not begun, it is not done."""
        self.is_wanted = False


class File(Endpoint):
    """A file, as threads and event loops ask for what is in it."""

    def __init__(self, path: Path, name: str, prefix: str, terms: Terms) -> None:
        self.path = path
        self._prefix = prefix
        self._begin_afresh()
        begin_afresh_in_child(self, File._leave)
        super().__init__(name, terms)

    def _begin_afresh(self) -> None:
        self._idle: deque[Connection] = deque()
        """Those that nobody is using."""
        self._pending: deque[_Pending[Any]] = deque()
        self._worker = Daemon("headgate-sqlite", self._work)
        self._starting: dict[str, object] = {}
        """Not empty while a thread starts the worker. Taken in one step: there must be no two."""
        self._open: set[Connection] = set()
        """All connections that there are, those included that are in use."""
        self._written = 0

    def _leave(self) -> None:
        for connection in self._open:
            connection.leave()
            _left.append(connection)
        self._begin_afresh()

    # As an endpoint

    def answer(self, groups: Sequence[Group]) -> list[Answer]:
        answers: list[Answer] = []
        for at in range(0, len(groups), MAX_GROUPS):
            answers += self.do(self._judging(groups[at : at + MAX_GROUPS]))
        return answers

    def ask(self, request: Group) -> Any:
        return self.do(self._judging((request,)))[0]

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        """As `Endpoint.begin`. What can be done at once has arrived when this returns."""
        loop = asyncio.get_running_loop()
        answers: list[Answer] = []
        pending: _Pending[list[Answer]] | None = None

        def go_on() -> None:
            nonlocal pending
            while len(answers) < len(groups):
                judging = self._judging(groups[len(answers) : len(answers) + MAX_GROUPS])
                try:
                    found = self._try(judging)
                except StoreOutage as outage:
                    arrive(outage)
                    return
                if found is None:
                    pending = self._enqueue(judging, done)
                    return
                answers.extend(found)
            arrive(answers)

        def done(found: list[Answer] | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(resume, found)

        def resume(found: list[Answer] | Exception) -> None:
            if isinstance(found, Exception):
                arrive(found)
            else:
                answers.extend(found)
                go_on()

        def give_up() -> None:
            if pending is not None:
                pending.give_up()

        go_on()
        return give_up

    def close_idle(self) -> None:
        while (connection := self._take_idle()) is not None:
            self._close(connection)

    # What is done with it

    def _judging(self, groups: Sequence[Group]) -> Callable[[Connection], list[Answer]]:
        clock = self.learnt.clock or system_clock
        return lambda connection: connection.decide(groups, clock)

    def do(self, transaction: Callable[[Connection], T]) -> T:
        """Do something in one transaction, within the deadline, blocking.

        :raises StoreOutage: if the file cannot be used, or it takes too long until it is our turn.
        """
        found = self._try(transaction)
        if found is not None:
            return found
        answers: list[T | Exception] = []
        is_done = threading.Lock()
        is_done.acquire()

        def done(answer: T | Exception) -> None:
            answers.append(answer)
            is_done.release()

        pending = self._enqueue(transaction, done)
        if not is_done.acquire(timeout=self.timeout_s):
            pending.give_up()
            raise self.overdue()
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _try(self, transaction: Callable[[Connection], T]) -> T | None:
        """Do something at once, if nobody else is writing."""
        connection = self._take_idle()
        try:
            if connection is None:
                connection = self._make(0)
            if not connection.turns.try_take():
                self._idle.append(connection)
                return None
            try:
                written = connection.written
                answer = connection.work(transaction)
            finally:
                connection.turns.end()
        except BaseException as error:  # were we interrupted, nobody knows how far it came
            if connection is not None:
                self._close(connection)
            if isinstance(error, Busy):  # the worker can wait for that
                return None
            raise
        self._idle.append(connection)
        self._count(connection.written - written)
        return answer

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # there is none, or another thread took the last one
            return None

    def _make(self, busy_timeout_s: float) -> Connection:
        connection = Connection(self.path, self.name, self._prefix, busy_timeout_s)
        self._open.add(connection)
        return connection

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    def _count(self, written: int) -> None:
        self._written += written
        if self._written >= CHECKPOINT_EVERY:
            self._written = 0
            self._enqueue(Connection.checkpoint, lambda _: None)

    # The worker

    def _enqueue(self, transaction: Callable[[Connection], T], done: Callable[[T | Exception], None]) -> _Pending[T]:
        pending = _Pending(transaction, done)
        self._pending.append(pending)
        if not self._worker.is_alive:
            own = object()
            try:
                if self._starting.setdefault("own", own) is own and not self._worker.is_alive:
                    self._worker.start()
            finally:
                if self._starting.get("own") is own:
                    self._starting.clear()
        self._worker.ring()
        return pending

    def _work(self) -> None:
        connection: Connection | None = None
        while self._worker.sleep(_IDLE_S):
            while self._pending:
                pending = self._pending.popleft()
                if not pending.is_wanted:
                    continue
                try:
                    if connection is None:
                        connection = self._make(self.timeout_s)
                    answer = _in_turn(pending, connection)
                except Exception as error:
                    answer = error
                    if connection is not None:
                        self._close(connection)
                        connection = None
                pending.done(answer)


def _in_turn(pending: _Pending[Any], connection: Connection) -> Any:
    if pending.transaction is Connection.checkpoint:
        connection.checkpoint()  # nearly all of it, which holds up nobody; but the log goes on growing meanwhile
    connection.turns.take()
    try:
        if pending.transaction is Connection.checkpoint:
            return connection.checkpoint()
        return connection.work(pending.transaction) if pending.is_wanted else None
    finally:
        connection.turns.end()

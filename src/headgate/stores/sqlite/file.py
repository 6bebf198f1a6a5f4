"""How a batch comes to the file: by the caller itself if nobody else is writing, or else by a thread of the store's.

A batch takes some 20 microseconds, less than it takes to wake a thread; so whoever finds the file free does it there
and then, an event loop, too. Whoever finds that somebody else is writing leaves it to the thread, which can wait for
its turn: the system's locks know no deadline, and callers have one.

A process must not fork while a file of SQLite is open in it: in the child, SQLite would count on locks that only the
parent has. So connections are closed before a fork, and opened again by whoever asks next.

This module must not know what is written.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final, Generic, TypeVar

from headgate.batching import Arrive
from headgate.clock import system_clock
from headgate.decision import Answer
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Group
from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child, put_away_before_fork
from headgate.stores.remote import Endpoint, Terms
from headgate.stores.remote.connections import take_last
from headgate.stores.sqlite.connection import Busy, Connection, Judging
from headgate.stores.sqlite.turns import Spell, Turns

T = TypeVar("T")

MAX_GROUPS: Final = 32
"""How many groups are judged in one turn: more than as many hold up the others for too long."""
CHECKPOINT_EVERY: Final = 2000
"""After so many entries were written, what is in the log is carried into the file."""
_IDLE_S: Final = 3600.0
_FORK_WITHIN_NS: Final = 1_000_000_000
"""How long a fork waits for those who are in the midst of a transaction, at most."""
_POLL_S: Final = 0.0002


class _Pending(Generic[T]):
    """Something that waits for its turn."""

    def __init__(
        self, transaction: Callable[[Connection], T], done: Callable[[T | Exception], None], closings: int
    ) -> None:
        self.transaction = transaction
        self.done = done
        self.closings = closings
        """How often the store had been closed when it came."""
        self.is_wanted = True

    def give_up(self) -> None:
        """Nobody waits for it any more: if it has not begun, it is not done."""
        self.is_wanted = False


class File(Endpoint):
    """A file, as threads and event loops ask for what is in it."""

    def __init__(self, path: Path, name: str, prefix: str, terms: Terms) -> None:
        self.path = path
        self._prefix = prefix
        self._timeout_ns = int(terms.timeout_s * 1e9)
        self._open: Final[set[Connection]] = set()
        """All connections, those included that are in use."""
        self._set_up()
        put_away_before_fork(self, File._put_away, File._go_on)
        begin_afresh_in_child(self, File._leave_parent)
        # A file that is dropped closes what it has before the collector comes to SQLite's own, each of which warns.
        weakref.finalize(self, _close_dropped, self._open).atexit = False
        super().__init__(name, terms)

    def _set_up(self) -> None:
        self._idle: deque[Connection] = deque()
        """The connections that nobody is using."""
        self._idle_turns: deque[Turns] = deque()
        """The places in the order of turns that nobody is using."""
        self._patient: deque[Connection] = deque()
        """The worker's connection, while it is not used; it waits for programs that have the file locked."""
        self._spell = Spell()
        self._turns: set[Turns] = set()
        """All places, those included that are in use."""
        self._inside: dict[int, int] = {}
        """Since when threads have been in the midst of a transaction, by `perf_counter_ns`."""
        self._is_forking = False
        self._pending: deque[_Pending[Any]] = deque()
        self._worker = Daemon("headgate-sqlite", self._work)
        self._starting: dict[str, object] = {}
        """Not empty while a thread starts the worker. Taken in one step: there must be no two."""
        self._written = 0
        self._closings = 0
        """How often the store was closed."""

    # Forks

    def _put_away(self) -> None:
        """Close all connections. Who comes meanwhile leaves it to the worker, who waits."""
        self._is_forking = True
        own = threading.get_ident()
        until_ns = perf_counter_ns() + _FORK_WITHIN_NS
        while True:
            self._close_all(self._idle)
            self._close_all(self._patient)
            # Whoever goes inside says so before it looks whether a fork is under way.
            if not [thread for thread in list(self._inside) if thread != own] or perf_counter_ns() > until_ns:
                break
            time.sleep(_POLL_S)
        self._close_all(self._idle)
        self._close_all(self._patient)

    def _go_on(self) -> None:
        self._is_forking = False

    def _leave_parent(self) -> None:
        for turns in self._turns:
            turns.close()
        for connection in (*self._idle, *self._patient):  # whoever forked us has not called what goes before
            self._close(connection)
        self._set_up()
        self._is_lost = bool(self._open)  # in the midst of these we were forked: SQLite is of no use here any more

    _is_lost = False
    """Was this process forked in the midst of a transaction?"""

    # As an endpoint

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        answers: list[Answer] = []
        until_s = time.monotonic() + (self.timeout_s if left_s is None else left_s)
        for at in range(0, len(groups), MAX_GROUPS):
            answers += self.do(self._judging(groups[at : at + MAX_GROUPS]), until_s)
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

    def overdue(self) -> StoreOutage:
        return StoreTimeout(
            self.name,
            f"it could not be written within {self.timeout_s:g} s: does another program keep it locked, or does its "
            "disk hang?",
        )

    def close_idle(self) -> None:
        self._closings += 1
        self._close_all(self._idle)
        self._close_all(self._patient)
        while (turns := take_last(self._idle_turns)) is not None:
            self._give_up_turns(turns)

    # Transactions

    def _judging(self, groups: Sequence[Group]) -> Judging:
        return Judging(groups, self.learnt.clock or system_clock)

    def do(self, transaction: Callable[[Connection], T], until_s: float | None = None) -> T:
        """Do something in one transaction, within the deadline, or until an instant of `time.monotonic`; blocking.

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
        left_s = self.timeout_s if until_s is None else max(0.0, until_s - time.monotonic())
        if not is_done.acquire(timeout=left_s):
            pending.give_up()
            raise self.overdue()
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _try(self, transaction: Callable[[Connection], T]) -> T | None:
        """Do something at once, if nobody else is writing.

        :raises StoreUnavailable: also if this thread is in the midst of another call, whose end we would wait for.
        """
        own, now_ns = threading.get_ident(), perf_counter_ns()
        if now_ns - self._inside.get(own, -self._timeout_ns) < self._timeout_ns:  # or it was left behind by a signal
            raise StoreUnavailable(self.name, "it is in use by the call that was interrupted for this one")
        turns = take_last(self._idle_turns) or self._make_turns()
        try:
            if not turns.try_take():
                self._idle_turns.append(turns)
                return None
            try:
                answer = self._inside_of(self._idle, 0, transaction, turns.began_ns)
            finally:
                turns.end()
        except Busy:  # the worker can wait for that
            answer = None
        except StoreOutage:
            self._idle_turns.append(turns)
            raise
        except BaseException:  # we were interrupted, perhaps where nobody knows how it stands
            self._give_up_turns(turns)
            raise
        self._idle_turns.append(turns)
        if self._written >= CHECKPOINT_EVERY:
            self._written = 0
            self._enqueue(Connection.checkpoint, lambda _: None)
        return answer

    def _inside_of(
        self, idle: deque[Connection], busy_timeout_s: float, transaction: Callable[[Connection], T], now_ns: int
    ) -> T | None:
        """Do something, when it is our turn; None if this process is about to fork."""
        own = threading.get_ident()
        self._inside[own] = now_ns
        try:
            if self._is_forking:
                return None
            closings = self._closings
            connection = take_last(idle) or self._make(busy_timeout_s)
            try:
                written = connection.written
                answer = connection.work(transaction, now_ns)
            except BaseException:  # were we interrupted, nobody knows how far it came
                self._close(connection)
                raise
            self._written += connection.written - written
            self._put_back(connection, idle, closings)
            return answer
        finally:
            self._inside.pop(own, None)

    def _put_back(self, connection: Connection, idle: deque[Connection], closings: int) -> None:
        """Keep a connection for later, unless the store was closed since it was taken."""
        if closings == self._closings:
            idle.append(connection)
        else:
            self._close(connection)

    def _make(self, busy_timeout_s: float) -> Connection:
        if self._is_lost:
            raise StoreUnavailable(
                self.name,
                "this process was forked in the midst of a transaction, and must not use SQLite: begin it anew",
            )
        connection = Connection(self.path, self.name, self._prefix, busy_timeout_s)
        self._open.add(connection)
        return connection

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    def _close_all(self, idle: deque[Connection]) -> None:
        while (connection := take_last(idle)) is not None:
            connection.finish()
            self._open.discard(connection)

    def _make_turns(self) -> Turns:
        try:
            turns = Turns(self.path, self._spell)
        except OSError as error:
            raise StoreUnavailable(self.name, f"check its folder, and the rights ({error})") from error
        self._turns.add(turns)
        return turns

    def _give_up_turns(self, turns: Turns) -> None:
        turns.close()
        self._turns.discard(turns)

    # The worker

    def _enqueue(self, transaction: Callable[[Connection], T], done: Callable[[T | Exception], None]) -> _Pending[T]:
        pending = _Pending(transaction, done, self._closings)
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
        turns: Turns | None = None
        while self._worker.sleep(_IDLE_S):
            while self._pending:
                pending = self._pending.popleft()
                if not pending.is_wanted:
                    continue
                try:
                    turns = turns or self._make_turns()
                    answer = self._in_turn(turns, pending)
                except Exception as error:
                    answer = error
                if pending.is_wanted:
                    pending.done(answer)
        self.close_idle()

    def _in_turn(self, turns: Turns, pending: _Pending[Any]) -> Any:
        """Do something when it is our turn, however long that takes; nothing, if nobody waits for it any more."""
        transaction = pending.transaction
        if transaction is Connection.checkpoint:  # nearly all of it, which holds up nobody; but the log goes on growing
            self._checkpoint(pending.closings)
        while True:
            turns.take()
            try:
                if not pending.is_wanted:
                    return None
                if transaction is Connection.checkpoint:
                    return self._checkpoint(pending.closings)
                answer = self._inside_of(self._patient, self.timeout_s, transaction, turns.began_ns)
            finally:
                turns.end()
            if answer is not None:
                return answer
            time.sleep(_POLL_S)  # this process forks

    def _checkpoint(self, closings: int) -> None:
        """Carry the log into the file, unless the store was closed since that was due: SQLite does it then."""
        own = threading.get_ident()
        self._inside[own] = perf_counter_ns()
        try:
            if not self._is_forking and closings == self._closings:
                connection = take_last(self._patient) or self._make(self.timeout_s)
                try:
                    connection.checkpoint()
                except BaseException:
                    self._close(connection)
                    raise
                self._put_back(connection, self._patient, closings)
        finally:
            self._inside.pop(own, None)


def _close_dropped(connections: set[Connection]) -> None:
    for connection in connections:
        connection.finish()

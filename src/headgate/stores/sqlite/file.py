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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final, TypeVar

from headgate.batching import Arrive
from headgate.clock import system_clock
from headgate.decision import Answer
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.runtime.forks import begin_afresh_in_child, put_away_before_fork
from headgate.stores.remote import Endpoint, Terms
from headgate.stores.remote.connections import take_last
from headgate.stores.sqlite.connection import Busy, Connection, Judging
from headgate.stores.sqlite.turns import Places, Turns
from headgate.stores.sqlite.waiting import Pending, Request, Worker

T = TypeVar("T")

MAX_GROUPS: Final = 32
"""How many groups are judged in one turn: more than as many hold up the others for too long."""
CHECKPOINT_EVERY: Final = 2000
"""After so many entries were written, what is in the log is carried into the file."""
_FORK_WITHIN_NS: Final = 1_000_000_000
"""How long a fork waits for those who are in the midst of a transaction, at most."""
_POLL_S: Final = 0.0002


class File(Endpoint):
    """A file, as threads and event loops ask for what is in it."""

    def __init__(self, path: Path, name: str, prefix: str, terms: Terms) -> None:
        self.path = path
        self._name = name
        self._prefix = prefix
        self._timeout_ns = int(terms.timeout_s * 1e9)
        self._set_up()
        put_away_before_fork(self, File._put_away, File._go_on)
        begin_afresh_in_child(self, File._leave_parent)
        super().__init__(name, terms)

    def _set_up(self) -> None:
        self._idle: deque[Connection] = deque()
        """The connections that nobody is using."""
        self._patient: deque[Connection] = deque()
        """The worker's connection, while it is not used; it waits for programs that have the file locked."""
        self._open: set[Connection] = set()
        """All connections, those included that are in use."""
        self._places = Places(self.path, self._name)
        self._inside: dict[int, int] = {}
        """Since when threads have been in the midst of a transaction, by `perf_counter_ns`."""
        self._is_forking = False
        self._requests: dict[int, Request] = {}
        """The threads that wait to be brought a turn."""
        self._worker = Worker(self._places, self._do_in_turn, self.close_idle)
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
        self._places.close()
        left = [*self._open]  # in the midst of which we were forked: SQLite is of no use here any more
        self._set_up()
        self._open.update(left)
        self._is_lost = bool(left)

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
        pending: Pending[list[Answer]] | None = None

        def go_on() -> None:
            nonlocal pending
            while len(answers) < len(groups):
                judging = self._judging(groups[len(answers) : len(answers) + MAX_GROUPS])
                try:
                    found = self._try(judging)
                except Busy:  # the worker can wait for that
                    found = None
                except StoreOutage as outage:
                    arrive(outage)
                    return
                if found is None:
                    pending = Pending(judging, done, self._closings)
                    self._worker.enqueue(pending)
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
        self._closings += 1
        self._close_all(self._idle)
        self._close_all(self._patient)
        self._places.close_idle()

    # Transactions

    def _judging(self, groups: Sequence[Group]) -> Judging:
        return Judging(groups, self.learnt.clock or system_clock)

    def do(self, transaction: Callable[[Connection], T], until_s: float | None = None) -> T:
        """Do something in one transaction, within the deadline, or until an instant of `time.monotonic`; blocking.

        :raises StoreOutage: if the file cannot be used, or it takes too long until it is our turn.
        """
        try:
            found = self._try(transaction)
            if found is None:
                until_s = time.monotonic() + self.timeout_s if until_s is None else until_s
                found = self._wait_and_do(transaction, until_s)
        except Busy:  # the worker can wait for that
            found = None
        return self._leave_to_worker(transaction, until_s) if found is None else found

    def _leave_to_worker(self, transaction: Callable[[Connection], T], until_s: float | None) -> T:
        """Have the worker do something, and wait for it."""
        answers: list[T | Exception] = []
        is_done = threading.Lock()
        is_done.acquire()

        def done(answer: T | Exception) -> None:
            answers.append(answer)
            is_done.release()

        pending = Pending(transaction, done, self._closings)
        self._worker.enqueue(pending)
        left_s = self.timeout_s if until_s is None else max(0.0, until_s - time.monotonic())
        if not is_done.acquire(timeout=left_s):
            pending.give_up()
            raise self.overdue()
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait_and_do(self, transaction: Callable[[Connection], T], until_s: float) -> T | None:
        """Do something when the worker brings the turn for it. None: it was not done, and has to be left to it."""
        own, request = threading.get_ident(), Request()
        self._requests[own] = request
        try:
            self._worker.enqueue(request)
            is_awake = request.wait(max(0.0, until_s - time.monotonic()))
            self._requests.pop(own, None)
            if taken := request.brought():
                return self._in_turn(taken, transaction)
            if request.outage is not None:
                raise request.outage
            if not is_awake:
                raise self.overdue()
        except BaseException:  # if we were interrupted, perhaps nobody knows how it stands
            self._requests.pop(own, None)
            self._places.give_up(request.brought())
            raise
        return None

    def _try(self, transaction: Callable[[Connection], T]) -> T | None:
        """Do something at once, if nobody else is writing.

        :raises StoreUnavailable: also if this thread is in the midst of another call, whose end we would wait for.
        """
        own, now_ns = threading.get_ident(), perf_counter_ns()
        if now_ns - self._inside.get(own, -self._timeout_ns) < self._timeout_ns:  # or it was left behind by a signal
            raise StoreUnavailable(self.name, "it is in use by the call that was interrupted for this one")
        if self._requests and own in self._requests:  # it cannot use its turn before we are done
            request = self._requests.pop(own)
            self._places.end(request.brought())
            request.wake()
        turns = self._places.get()
        taken = [turns]
        try:
            if turns.try_take():
                return self._in_turn(taken, transaction)
        except BaseException:  # if we were interrupted, perhaps nobody knows how it stands
            self._places.give_up(taken)
            raise
        self._places.put_back(turns)
        return None

    def _in_turn(self, taken: list[Turns], transaction: Callable[[Connection], T]) -> T | None:
        """Do something in the turn that was taken for it, and end that: then, `taken` is empty. None: it was not done,
        since this process is about to fork.

        :raises Busy: if another program has the file locked.
        """
        try:
            answer = self._inside_of(self._idle, 0, transaction, taken[0].began_ns)
        except StoreOutage:
            self._places.end(taken)
            raise
        self._places.end(taken)
        if self._written >= CHECKPOINT_EVERY:
            self._written = 0
            self._worker.enqueue(Pending(Connection.checkpoint, lambda _: None, self._closings))
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
            self._close(connection)

    # The worker's

    def _do_in_turn(self, turns: Turns, pending: Pending[Any]) -> Any:
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

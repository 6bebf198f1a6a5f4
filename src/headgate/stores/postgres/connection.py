"""A connection, and what is asked over it, in steps that wait for the socket: blocking or in an event loop.

It is libpq, as psycopg hands it out. psycopg's own way would wait for the server to say that it has cancelled a
statement: one that is frozen says nothing, and the deadline passes.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from psycopg import OperationalError, pq

T = TypeVar("T")


class Slot(Protocol):
    """The right to have a connection."""

    def free(self) -> None:
        """Say that it is not needed any more. It may have been said before."""
        ...


class Busy(Exception):
    """No connection was free in time. Its text says whose there are."""


READ: Final = 1
WRITE: Final = 2
_READ_ONLY: Final = b"25006"
"""The error of a server that is a standby by now: the next connection may lead to the primary."""

Avoid = Callable[[str, str], None]
"""Is told the host and the port of a server that is of no use now."""
Steps = Generator[tuple[int, int], None, T]
"""Work that yields `(socket, READ | WRITE)` wherever it has to wait for that."""


class Statement(NamedTuple):
    """A statement, and its parameters in the binary format; without them, it may be several."""

    text: bytes
    parameters: tuple[bytes | None, ...] = ()
    types: tuple[int, ...] = ()
    has_binary_result: bool = True


class Connection:
    """A connection to a database. Asked by one thread or task at a time.

    :param lent: the connection of a user's pool, if it is one.
    :param slot: kept until this is closed, or nobody has it any more.
    :param avoid: told of its host, where that is a standby.
    """

    def __init__(self, pgconn: Any, lent: Any = None, slot: Slot | None = None, avoid: Avoid | None = None) -> None:
        self.pgconn: Final = pgconn
        self.lent: Final = lent
        self._slot = slot
        self._avoid = avoid
        self.is_usable = True
        self._pid: Final = os.getpid()

    def is_quiet(self) -> bool:
        """Is there nothing to read, not even its end, as there should be before it is asked?"""
        if self.pgconn.status != pq.ConnStatus.OK:
            return False
        return not is_ready(self.pgconn.socket, READ, 0)

    def asking(self, statement: Statement) -> Steps[Any]:
        """Send a statement, and wait for its result; of several, the last one. Where that fails, the connection is of
        no use any more.
        """
        pgconn = self.pgconn
        self.is_usable = False
        if statement.types:
            count = len(statement.types)
            formats = [1] * count
            form = 1 if statement.has_binary_result else 0
            pgconn.send_query_params(statement.text, statement.parameters, statement.types, formats, form)
        else:
            pgconn.send_query(statement.text)
        while pgconn.flush():
            yield pgconn.socket, READ | WRITE
            if is_ready(pgconn.socket, READ, 0):
                pgconn.consume_input()
        last = None
        while True:
            while pgconn.is_busy():
                yield pgconn.socket, READ
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            last = result
        if last is None:
            raise OperationalError("the server closed the connection")
        is_standby = last.error_field(pq.DiagnosticField.SQLSTATE) == _READ_ONLY
        self.is_usable = pgconn.status == pq.ConnStatus.OK and not is_standby
        if is_standby and self._avoid is not None:
            self._avoid(*_place_of(pgconn))
        return last

    def close(self) -> None:
        """Close it at once, and wait for nothing. In a forked process, it stays open for the parent."""
        self.is_usable = False
        if self._slot is not None:
            self._slot.free()
        if self._pid == os.getpid():
            self.pgconn.finish()
        elif self.lent is None:
            with suppress(OSError, OperationalError):
                os.close(self.pgconn.socket)


def connecting(conninfo: bytes, avoid: Avoid, slot: Slot | None = None) -> Steps[Connection]:
    """Open a connection.

    :param avoid: as `Connection` takes it; told of a host that did not answer by the deadline, too.
    :param slot: as `Connection` takes it.
    :raises OperationalError: if that fails.
    """
    pgconn = pq.PGconn.connect_start(conninfo)  # which fails by its status
    try:
        while pgconn.status != pq.ConnStatus.BAD:
            status = pgconn.connect_poll()
            if status == pq.PollingStatus.OK:
                pgconn.nonblocking = 1
                return Connection(pgconn, None, slot, avoid)
            if status == pq.PollingStatus.FAILED:
                break
            yield pgconn.socket, READ if status == pq.PollingStatus.READING else WRITE
        raise OperationalError(pgconn.get_error_message())
    except BaseException as ending:  # the deadline's, too
        if isinstance(ending, GeneratorExit):
            avoid(*_place_of(pgconn))
        if slot is not None:
            slot.free()
        pgconn.finish()
        raise


def _place_of(pgconn: Any) -> tuple[str, str]:
    """The host and the port that it is connected with, or to be."""
    return pgconn.host.decode(errors="replace"), pgconn.port.decode()


def run_blocking(steps: Steps[T], deadline: float) -> T:
    """Do work to its end, blocking.

    :param deadline: by `time.monotonic`.
    :raises TimeoutError: if it passes.
    """
    try:
        while True:
            socket, events = next(steps)
            while not is_ready(socket, events, deadline - time.monotonic()):
                if time.monotonic() >= deadline:
                    raise TimeoutError
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()


def is_ready(socket: int, events: int, timeout_s: float) -> bool:
    """Wait until a socket is ready for one of the events. False if it is not in time."""
    timeout_s = max(0.0, timeout_s)
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(socket, (select.POLLIN if events & READ else 0) | (select.POLLOUT if events & WRITE else 0))
        return bool(poller.poll(timeout_s * 1_000))
    found = select.select(
        [socket] if events & READ else [], [socket] if events & WRITE else [], [], timeout_s
    )  # pragma: no cover - Windows
    return any(found)

"""The connections of threads: a few, opened when they are needed. Or those of a user's pool."""

from __future__ import annotations

import queue
import time
from collections import deque
from typing import Any, Final, Protocol

from headgate.errors import InvalidUse
from headgate.runtime.forks import begin_afresh_in_child
from headgate.stores.postgres.address import Parameters, conninfo
from headgate.stores.postgres.connection import Connection, connecting, run_blocking


class Busy(Exception):
    """All connections are in use, and none was free in time."""


class Connections(Protocol):
    """Hands out connections to threads. Safe to share between them, and with forked processes."""

    def take(self, deadline: float, /) -> Connection:
        """Take a connection, which is the caller's alone until it is put back.

        :param deadline: by `time.monotonic`.
        :raises TimeoutError: if there is none by then.
        """
        ...

    def put(self, connection: Connection, /) -> None:
        """Put a connection back. One that is of no use any more is closed."""
        ...

    def close_idle(self) -> None:
        """Close those that nobody has taken."""
        ...


class OwnConnections:
    """At most so many connections of our own. No lock: a signal's handler may ask in the middle of a call."""

    def __init__(self, parameters: Parameters, most: int) -> None:
        self._conninfo: Final = conninfo(parameters)
        self._most: Final = most
        self._begin()
        begin_afresh_in_child(self, OwnConnections._begin_afresh)

    def _begin(self) -> None:
        self._idle: deque[Connection] = deque()
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One for each connection that may still be taken."""
        for _ in range(self._most):
            self._permits.put(None)

    def _begin_afresh(self) -> None:
        self.close_idle()
        self._begin()

    def take(self, deadline: float) -> Connection:
        permits = self._permits
        try:
            permits.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Busy from None
        try:
            while (connection := _pop(self._idle)) is not None:
                if connection.is_quiet():
                    return connection
                connection.close()
            return run_blocking(connecting(self._conninfo), deadline)
        except BaseException:
            permits.put(None)
            raise

    def put(self, connection: Connection) -> None:
        if connection.is_usable:
            self._idle.append(connection)
        else:
            connection.close()
        self._permits.put(None)

    def close_idle(self) -> None:
        while (connection := _pop(self._idle)) is not None:
            connection.close()


class PoolConnections:
    """The connections of a `psycopg_pool.ConnectionPool` of the user's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def take(self, deadline: float) -> Connection:
        timeout_s = deadline - time.monotonic()
        if timeout_s <= 0:
            raise Busy
        try:
            lent = self._pool.getconn(timeout=timeout_s)
        except TimeoutError:
            raise Busy from None
        except Exception as error:
            if type(error).__name__ == "PoolTimeout":  # psycopg_pool may not be installed
                raise Busy from None
            raise
        return Connection(lent.pgconn, lent)

    def put(self, connection: Connection) -> None:
        if not connection.is_usable:
            connection.close()
        self._pool.putconn(connection.owned)

    def close_idle(self) -> None:
        """They are the user's."""


class NoConnections:
    """Of a store that was made from an asyncio pool."""

    def take(self, deadline: float) -> Connection:
        raise InvalidUse("this store was made from an asyncio pool: it serves AsyncLimiter only")

    def put(self, connection: Connection) -> None:
        """There are none."""

    def close_idle(self) -> None:
        """There are none."""


def _pop(idle: deque[Connection]) -> Connection | None:
    try:
        return idle.pop()
    except IndexError:  # there is none, or another thread took the last one
        return None

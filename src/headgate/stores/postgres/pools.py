"""The connections of a user's pool: of `psycopg_pool`, or one that is asked likewise."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import Any, Final

from psycopg import errors, pq

from headgate.drive import Plan, drive
from headgate.errors import InvalidUse
from headgate.runtime.daemons import Daemon
from headgate.stores.postgres.connection import Busy, Connection

_EXHAUSTED: Final = (
    "its pool handed out none: all are in use, or it cannot connect, of which the log of psycopg.pool tells"
)
_ITS_OWN_S: Final = 0.01
"""A pool that keeps its timeout is given so long to say so."""


def taking() -> Plan[Any, Connection]:
    """Take a connection of a pool that is of use. Yields None, and is sent what the pool hands out; and yields what is
    to be put back.

    :raises ActiveSqlTransaction: if it is in a transaction, with which all that is spent would be rolled back.
    """
    while True:
        lent = yield None
        connection = None
        try:
            connection = _lent_by_pool(lent)
        finally:
            if connection is None:
                yield lent
        if connection is not None:
            return connection


def _lent_by_pool(lent: Any) -> Connection | None:
    """A connection that a pool handed out; None if it has ended meanwhile."""
    connection = Connection(lent.pgconn, lent)
    if not connection.is_quiet():
        connection.close()
        return None
    if lent.pgconn.transaction_status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
        raise errors.ActiveSqlTransaction("the connection is in a transaction")
    return connection


def of_pool(error: Exception) -> Exception:
    """The error that one of a pool means."""
    is_late = isinstance(error, TimeoutError) or type(error).__name__ == "PoolTimeout"  # psycopg_pool may be missing
    return Busy(_EXHAUSTED) if is_late else error


class PoolConnections:
    """The connections of a `psycopg_pool.ConnectionPool` of the user's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        # A pool that checks its connections asks the server, and a null pool connects, without a look at the deadline.
        self._keeps_deadline = type(pool).__name__ == "ConnectionPool" and getattr(pool, "_check", pool) is None

    def take(self, deadline: float) -> Connection:
        def send(back: Any) -> Any:
            return self._lend(deadline) if back is None else self._pool.putconn(back)

        return drive(taking(), send)

    def _lend(self, deadline: float) -> Any:
        timeout_s = deadline - time.monotonic()
        if timeout_s <= 0:
            raise Busy(_EXHAUSTED)
        return self._get(timeout_s) if self._keeps_deadline else self._get_in_thread(timeout_s)

    def _get(self, timeout_s: float) -> Any:
        try:
            return self._pool.getconn(timeout=timeout_s)
        except Exception as error:
            raise of_pool(error) from None

    def _get_in_thread(self, timeout_s: float) -> Any:
        """Get one, or stop waiting for it: then it goes back as soon as it is there."""
        got: queue.SimpleQueue[Any] = queue.SimpleQueue()
        is_late: list[bool] = []

        def get() -> None:
            try:
                got.put(self._get(timeout_s))
            except Exception as error:
                got.put(error)
            if is_late:
                put_back()

        def put_back() -> None:
            with suppress(queue.Empty):
                lent = got.get_nowait()
                if not isinstance(lent, Exception):
                    self._pool.putconn(lent)

        Daemon("headgate-pool", get).start()
        try:
            lent = got.get(timeout=timeout_s + _ITS_OWN_S)
        except BaseException as error:  # a signal's, too
            is_late.append(True)
            put_back()
            if isinstance(error, queue.Empty):
                raise TimeoutError from None
            raise
        if isinstance(lent, Exception):
            raise lent
        return lent

    def put(self, connection: Connection) -> None:
        if not connection.is_usable:
            connection.close()
        self._pool.putconn(connection.lent)

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

"""How threads ask the server: requests are written to a socket, and their replies read from there.

redis-py's own way (`send_packed_command`, `read_response`, its pool) takes as long again as all else that we do for a
call, so it is kept for where there is no other; docs/decisions/0008-lean-path.md has the numbers.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Any

import hiredis

from headgate.runtime.forks import begin_afresh_in_child
from headgate.stores.redis import library
from headgate.stores.redis.connector import Connector, is_from_replica

_READ_BYTES = 65_536


class PublicConnection:
    """One connection, by redis-py's public way. For one thread at a time."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def is_quiet(self) -> bool:
        """Is there nothing to read, not even its end, as there should be before we ask?"""
        try:
            return not self._connection.can_read(0)
        except Exception:  # its end
            return False

    def ask(self, packed: bytes, count: int) -> list[Any]:
        """Send requests, and wait for their `count` replies; an error that the server answers is a
        `hiredis.ReplyError`.

        :raises redis.exceptions.RedisError, OSError: if they cannot be sent, or no reply comes within the deadline. The
            connection is of no use then.
        """
        self._connection.send_packed_command([packed], check_health=False)
        return [library.read(self._connection) for _ in range(count)]

    def close(self) -> None:
        """Close it. In a forked process, it stays open for the parent."""
        self._connection.disconnect()


class Connection(PublicConnection):
    """One connection, by its socket."""

    __slots__ = ("_poller", "_reader", "_socket")

    def __init__(self, connection: Any, socket: Any) -> None:
        super().__init__(connection)
        self._socket = socket
        self._reader = hiredis.Reader()
        self._poller: Any = None
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(socket, select.POLLIN)

    def is_quiet(self) -> bool:
        if self._poller is not None:
            return not self._poller.poll(0)
        return not select.select([self._socket], [], [], 0)[0]

    def ask(self, packed: bytes, count: int) -> list[Any]:
        self._socket.sendall(packed)
        reader, receive = self._reader, self._socket.recv
        replies: list[Any] = []
        while len(replies) < count:
            received = receive(_READ_BYTES)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(received)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        if len(replies) > count:
            raise ConnectionResetError("the server answered what it was not asked")
        return replies


class ConnectionPool:
    """The connections of a process: as many as threads are asking at the same time. Safe to share between threads,
    and with forked processes.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._idle: deque[PublicConnection] = deque()
        begin_afresh_in_child(self, ConnectionPool.close)

    def ask(self, packed: bytes, count: int) -> list[Any]:
        """Ask on a connection that nobody is using: see `PublicConnection.ask`.

        :raises redis.exceptions.RedisError, OSError: as that does, or if none can be opened.
        """
        connection = self._check_out()
        try:
            replies = connection.ask(packed, count)
        except BaseException:  # were we interrupted, the next reply on it would be to this request
            connection.close()
            raise
        if any(map(is_from_replica, replies)):
            connection.close()
        else:
            self._idle.append(connection)
        return replies

    def _check_out(self) -> PublicConnection:
        while (connection := self._pop()) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        opened = self._connector.connect()
        socket = library.socket_of(opened)
        return PublicConnection(opened) if socket is None else Connection(opened, socket)

    def _pop(self) -> PublicConnection | None:
        try:
            return self._idle.pop()
        except IndexError:  # there is none, or another thread took the last one
            return None

    def close(self) -> None:
        """Close the connections on which nobody is asking."""
        while (connection := self._pop()) is not None:
            connection.close()

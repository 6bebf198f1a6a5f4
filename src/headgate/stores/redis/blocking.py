"""Asking the server from a thread: requests are written to a connection's socket, and their replies read from there.

redis-py's own way takes as long again as all else that we do for a call, so it is kept for where there is no other;
docs/decisions/0008-lean-path.md has the numbers.
"""

from __future__ import annotations

import select
from typing import Any

import hiredis

from headgate.stores.redis import library

_READ_BYTES = 65_536


class PublicConnection:
    """A connection, by redis-py's public way. An error that the server answers is a `hiredis.ReplyError`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.is_usable = True

    def is_quiet(self) -> bool:
        try:
            return not self._connection.can_read(0)
        except Exception:  # its end
            return False

    def ask(self, packed: bytes, count: int) -> list[Any]:
        self._connection.send_packed_command([packed], check_health=False)
        replies = [library.read(self._connection) for _ in range(count)]
        self.is_usable = not any(map(library.is_from_replica, replies))
        return replies

    def close(self) -> None:
        self._connection.disconnect()


class SocketConnection(PublicConnection):
    """A connection, by its socket."""

    def __init__(self, connection: Any, socket: Any) -> None:
        super().__init__(connection)  # comes first, so that where both are garbage, it closes the socket
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
                if type(reply) is hiredis.ReplyError and library.is_from_replica(reply):
                    self.is_usable = False
        if len(replies) > count:
            raise ConnectionResetError("the server answered what it was not asked")
        return replies

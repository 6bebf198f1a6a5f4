"""How threads ask the server: a question is written to a socket, and its answer read from there.

redis-py's own way (`send_command`, `read_response`, its pool) takes as long again as all else that we do for a call;
docs/decisions/0008-lean-path.md has the numbers.
"""

from __future__ import annotations

import select
from collections import deque
from typing import Any

import hiredis

from headgate.runtime.forks import begin_afresh_in_child
from headgate.stores.redis.connector import Connector, is_from_replica

_READ_BYTES = 65_536


class Line:
    """One connection. For one thread at a time."""

    __slots__ = ("_connection", "_poller", "_reader", "_socket")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection._sock  # redis-py has no name for it
        self._reader = hiredis.Reader()
        self._poller: Any = None
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(self._socket, select.POLLIN)

    def is_quiet(self) -> bool:
        """Is there nothing to read, not even its end, as there should be before we ask?"""
        if self._poller is not None:
            return not self._poller.poll(0)
        return not select.select([self._socket], [], [], 0)[0]

    def ask(self, packed: bytes, count: int) -> list[Any]:
        """Send some questions, and wait for their `count` answers; an error that the server answers is a
        `hiredis.ReplyError`.

        :raises OSError: if they cannot be sent, or no answer comes within the deadline. The line is of no use then.
        """
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

    def close(self) -> None:
        """Hang up. In a forked process, the connection stays open for its parent."""
        self._connection.disconnect()


class Lines:
    """The connections of a process: as many as threads are asking at the same time. Safe to share between threads,
    and with forked processes.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._idle: deque[Line] = deque()
        begin_afresh_in_child(self, Lines.close)

    def ask(self, packed: bytes, count: int) -> list[Any]:
        """As `Line.ask`, on a line that nobody is using.

        :raises redis.exceptions.RedisError, OSError: if there is none, and none can be opened.
        """
        line = self._check_out()
        try:
            replies = line.ask(packed, count)
        except BaseException:  # were we interrupted, the next answer on it would be to this question
            line.close()
            raise
        if any(map(is_from_replica, replies)):
            line.close()
        else:
            self._idle.append(line)
        return replies

    def _check_out(self) -> Line:
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if line.is_quiet():
                return line
            line.close()
        return Line(self._connector.dial())

    def close(self) -> None:
        """Hang up where nobody is asking."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            line.close()

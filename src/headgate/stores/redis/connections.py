"""How the server is asked over a connection: by a thread, or by an event loop.

redis-py opens the connection, and then hands over its socket, or its transport: its own way takes as long again as all
else that we do for a call, so it is kept for where there is no other; docs/decisions/0008-lean-path.md has the numbers.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from headgate.errors import StoreOutage
from headgate.stores.redis import library
from headgate.stores.remote.connections import PendingRequest

_READ_BYTES = 65_536
_AT_ONCE_BYTES = 16_384
"""So much goes out without waiting for the server to read it."""
_LEAST_S = 0.001
_NEARLY_S = 0.002


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

    def ask(self, packed: bytes, count: int, left_s: float | None = None, /) -> list[Any]:
        until_s = None if left_s is None else time.monotonic() + left_s
        self._connection.send_packed_command([packed], check_health=False)
        replies: list[Any] = []
        while len(replies) < count:
            if until_s is not None and not self._connection.can_read(max(0.0, until_s - time.monotonic())):
                raise TimeoutError("no answer came in the time that was left")
            replies.append(library.read(self._connection))
        self.is_usable = not any(map(library.is_from_replica, replies))
        return replies

    def close(self) -> None:
        self._connection.disconnect()


class SocketConnection(PublicConnection):
    """A connection, by its socket."""

    def __init__(self, connection: Any, socket: Any) -> None:
        super().__init__(connection)  # comes first, so that where both are garbage, it closes the socket
        self._socket = socket
        self._usual_s: float = socket.gettimeout()
        self._reader = hiredis.Reader()
        self._poller: Any = None
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(socket, select.POLLIN)

    def is_quiet(self) -> bool:
        if self._poller is not None:
            return not self._poller.poll(0)
        return not select.select([self._socket], [], [], 0)[0]

    def ask(self, packed: bytes, count: int, left_s: float | None = None, /) -> list[Any]:
        began_s = time.monotonic()
        is_usual = left_s is None or left_s > self._usual_s - _NEARLY_S
        if left_s is None or is_usual:
            left_s = self._usual_s
        else:
            self._socket.settimeout(max(_LEAST_S, left_s))
        self._socket.sendall(packed)
        if len(packed) > _AT_ONCE_BYTES:  # sending may have waited: what comes has what is left
            self._socket.settimeout(max(_LEAST_S, began_s + left_s - time.monotonic()))
            is_usual = False
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
            if len(replies) < count:  # each part that comes has what is left, and not the whole time again
                self._socket.settimeout(max(_LEAST_S, began_s + left_s - time.monotonic()))
                is_usual = False
        if not is_usual:  # where all this fails, the connection is of no use any more
            self._socket.settimeout(self._usual_s)
        if len(replies) > count:
            raise ConnectionResetError("the server answered what it was not asked")
        return replies


class TransportConnection(asyncio.Protocol):
    """A connection of an event loop. A request that nobody waits for any more keeps its place, so that its reply is not
    taken for the next one's. An error that the server answers is a `hiredis.ReplyError`.

    :param outage_of: what an error means.
    """

    def __init__(self, connection: Any, outage_of: Callable[[Exception], StoreOutage]) -> None:
        self._outage_of = outage_of
        self._reader = hiredis.Reader()
        self._pending: deque[PendingRequest] = deque()
        self._transport, self._kept = library.take_over(connection, self)
        self.is_usable = not self._transport.is_closing()

    def ask(self, request: PendingRequest) -> None:
        request.connection = self
        self._pending.append(request)
        self._transport.write(request.packed)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self.reply_received(reply)
        except (hiredis.ProtocolError, IndexError):  # no such server, or a reply to nothing
            self._transport.abort()

    def reply_received(self, reply: Any) -> None:
        """Hand out one reply.

        :raises IndexError: if nothing was asked.
        """
        if type(reply) is hiredis.ReplyError and library.is_from_replica(reply):
            self.retire()
        request = self._pending[0]
        request.replies.append(reply)
        if len(request.replies) == request.count:
            self._pending.popleft()
            replied, request.replied = request.replied, None  # no cycle is left for the garbage collector
            if replied is not None:
                replied(request.replies)
            if not self.is_usable and not self._pending:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_usable = False
        while self._pending:
            replied = self._pending.popleft().replied
            if replied is not None:
                replied(self._outage_of(error or ConnectionResetError("the server closed the connection")))

    def retire(self) -> None:
        self.is_usable = False
        if not any(request.replied for request in self._pending):
            self._transport.abort()

    def close(self) -> None:
        self.is_usable = False
        self._transport.close()

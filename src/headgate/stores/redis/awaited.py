"""How an event loop asks the server: requests are written to one connection as they come, and replies return in their
order.

The connection is opened by redis-py, which then hands over its transport: its streams cost more for each call than all
else that we do for one; docs/decisions/0008-lean-path.md has the numbers. A request that nobody waits for any more
keeps its place, so that its reply is not taken for the next one's.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hiredis

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.stores.redis import library
from headgate.stores.redis.connector import Connector, is_from_replica

Replied = Callable[[list[Any] | StoreOutage], None]
"""Gets the replies (an error that the server answers is a `hiredis.ReplyError`), or a `StoreOutage`."""


class PendingRequest:
    """What goes in one write, and waits for its replies."""

    __slots__ = ("connection", "count", "packed", "replied", "replies")

    def __init__(self, packed: bytes, count: int, replied: Replied) -> None:
        self.packed = packed
        self.count = count
        self.replies: list[Any] = []
        self.replied: Replied | None = replied
        """None once nobody waits for the replies, or they are there."""
        self.connection: Connection | None = None
        """Where it was sent."""

    def give_up(self) -> None:
        """Wait no longer. No other request goes where this one was not answered."""
        self.replied = None
        if self.connection is not None:
            self.connection.retire()


class Connection(asyncio.Protocol):
    """One connection, which is open until it is closed."""

    def __init__(self, opened: Any, connector: Connector) -> None:
        self._connector = connector
        self._reader = hiredis.Reader()
        self._pending: deque[PendingRequest] = deque()
        self._transport, self._kept = library.take_over(opened, self)
        self.is_usable = not self._transport.is_closing()

    def ask(self, request: PendingRequest) -> None:
        """Send a request."""
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
        if is_from_replica(reply):
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
                replied(self._connector.outage(error or ConnectionResetError("the server closed the connection")))

    def retire(self) -> None:
        """Take no more requests, and close when the last one is answered or given up."""
        self.is_usable = False
        if not any(request.replied for request in self._pending):
            self._transport.abort()

    def close(self) -> None:
        """Close at once. Who is still waiting is told so."""
        self.is_usable = False
        self._transport.close()


class LoopConnection:
    """The connection of one event loop, opened when it is needed, and the requests that wait for that. To be made in
    that loop, and used in no other. What is dropped is closed: the loop would keep the connection.
    """

    _connection: Connection | None = None

    def __init__(self, connector: Connector) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._connector = connector
        self._waiting: list[PendingRequest] = []
        self._connecting: asyncio.Task[None] | None = None
        self._is_retired = False

    def ask(self, packed: bytes, count: int, replied: Replied) -> PendingRequest:
        """Send what asks for `count` replies; `replied` gets them, unless the request is given up before."""
        request = PendingRequest(packed, count, replied)
        if self._connection is not None and self._connection.is_usable:
            self._connection.ask(request)
        else:
            self._waiting.append(request)
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="headgate-connecting")
        return request

    async def _connect(self) -> None:
        outage: StoreOutage = StoreUnavailable(self._connector.name, "it was closed")
        try:
            self._connection = Connection(await self._connector.connect_async(), self._connector)
        except Exception as error:  # whatever hinders redis-py is an outage
            outage = self._connector.outage(error)
        finally:
            self._connecting = None
            waiting, self._waiting = self._waiting, []
            for request in waiting:
                if request.replied is None:
                    continue
                if self._connection is not None and self._connection.is_usable:
                    self._connection.ask(request)
                else:
                    request.replied(outage)
            if self._is_retired:
                self.retire()

    def retire(self) -> None:
        """Close as soon as all requests are answered, and so for those that are still to come."""
        self._is_retired = True
        if self._connection is not None:
            self._connection.retire()

    def retire_soon(self) -> None:
        """As `retire`, from anywhere. In a forked process, where our event loop does not run, nothing happens."""
        self._from_anywhere(self.retire)

    def _from_anywhere(self, close: Callable[[], None]) -> None:
        if self._pid == os.getpid():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(close)

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_usable:
            self._from_anywhere(connection.retire)

    def close(self) -> None:
        """Close at once."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

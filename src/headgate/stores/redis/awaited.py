"""Asking the server from an event loop: requests are written to one connection as they come, and replies return in
their order.

redis-py opens the connection, and then hands over its transport: its streams cost more for each call than all else that
we do for one; docs/decisions/0008-lean-path.md has the numbers. A request that nobody waits for any more keeps its
place, so that its reply is not taken for the next one's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from headgate.errors import StoreOutage
from headgate.stores.connections import PendingRequest
from headgate.stores.redis import library


class Connection(asyncio.Protocol):
    """A connection of an event loop. An error that the server answers is a `hiredis.ReplyError`.

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

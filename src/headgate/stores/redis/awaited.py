"""How an event loop asks the server: questions are written to one connection as they come, and answers return in their
order.

The connection is opened by redis-py, which then hands over its transport: its streams cost more for each call than all
else that we do for one; docs/decisions/0008-lean-path.md has the numbers. A question that nobody waits for any more
keeps its place, so that its answer is not taken for the next one's.
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
from headgate.stores.redis.connector import Connector, is_from_replica

Replied = Callable[[list[Any] | StoreOutage], None]
"""Gets the answers: replies (an error that the server answers is a `hiredis.ReplyError`), or a `StoreOutage`."""


class PendingRequest:
    """Some questions that go in one write, and wait for their answers."""

    __slots__ = ("count", "packed", "replied", "replies", "wire")

    def __init__(self, packed: bytes, count: int, replied: Replied) -> None:
        self.packed = packed
        self.count = count
        self.replies: list[Any] = []
        self.replied: Replied | None = replied
        """None once nobody waits for the answer, or it is there."""
        self.wire: Wire | None = None
        """Where it was sent."""

    def give_up(self) -> None:
        """Wait no longer. No other question goes where this one was not answered."""
        self.replied = None
        if self.wire is not None:
            self.wire.retire()


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, connection: Any, connector: Connector) -> None:
        writer = connection._writer  # redis-py has no names for its streams
        connection._writer = connection._reader = None  # they are ours now
        self._writer = writer  # which would close the transport at its end
        self._transport: asyncio.Transport = writer.transport
        self._connector = connector
        self._reader = hiredis.Reader()
        self._asked: deque[PendingRequest] = deque()
        self.is_usable = not self._transport.is_closing()
        self._transport.set_protocol(self)

    def ask(self, question: PendingRequest) -> None:
        """Send a question."""
        question.wire = self
        self._asked.append(question)
        self._transport.write(question.packed)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if is_from_replica(reply):
                    self.retire()
                question = self._asked[0]
                question.replies.append(reply)
                if len(question.replies) == question.count:
                    self._asked.popleft()
                    replied, question.replied = question.replied, None  # no cycle is left for the garbage collector
                    if replied is not None:
                        replied(question.replies)
        except (hiredis.ProtocolError, IndexError):  # no such server, or an answer to nothing
            self._transport.abort()
        if not self.is_usable and not self._asked:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_usable = False
        while self._asked:
            replied = self._asked.popleft().replied
            if replied is not None:
                replied(self._connector.outage(error or ConnectionResetError("the server closed the connection")))

    def retire(self) -> None:
        """Take no more questions, and close when the last one is answered or given up."""
        self.is_usable = False
        if not any(question.replied for question in self._asked):
            self._transport.abort()

    def close(self) -> None:
        """Hang up. Who is still waiting is told so."""
        self.is_usable = False
        self._transport.close()


class LoopConnection:
    """The connection of one event loop, and the questions that wait for it to be opened. To be made in that loop, and
    used in no other. What is dropped hangs up: the loop would keep the connection.
    """

    _wire: Wire | None = None

    def __init__(self, connector: Connector) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._connector = connector
        self._waiting: list[PendingRequest] = []
        self._dialling: asyncio.Task[None] | None = None
        self._is_retired = False

    def ask(self, packed: bytes, count: int, replied: Replied) -> PendingRequest:
        """Send what asks for `count` answers; `replied` gets them, unless the question is given up before."""
        question = PendingRequest(packed, count, replied)
        if self._wire is not None and self._wire.is_usable:
            self._wire.ask(question)
        else:
            self._waiting.append(question)
            if self._dialling is None:
                self._dialling = asyncio.get_running_loop().create_task(self._dial(), name="headgate-dialling")
        return question

    async def _dial(self) -> None:
        outage: StoreOutage = StoreUnavailable(self._connector.name, "it was closed")
        try:
            self._wire = Wire(await self._connector.connect_async(), self._connector)
        except Exception as error:  # whatever hinders redis-py is an outage
            outage = self._connector.outage(error)
        finally:
            self._dialling = None
            waiting, self._waiting = self._waiting, []
            for question in waiting:
                if question.replied is None:
                    continue
                if self._wire is not None and self._wire.is_usable:
                    self._wire.ask(question)
                else:
                    question.replied(outage)
            if self._is_retired:
                self.retire()

    def retire(self) -> None:
        """Hang up as soon as all questions are answered, and so for those that will still be asked."""
        self._is_retired = True
        if self._wire is not None:
            self._wire.retire()

    def retire_soon(self) -> None:
        """As `retire`, from anywhere. In a forked process, where our event loop does not run, nothing happens."""
        self._from_anywhere(self.retire)

    def _from_anywhere(self, hang_up: Callable[[], None]) -> None:
        if self._pid == os.getpid():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(hang_up)

    def __del__(self) -> None:
        wire = self._wire
        if wire is not None and wire.is_usable:
            self._from_anywhere(wire.retire)

    def close(self) -> None:
        """Hang up."""
        if self._dialling is not None:
            self._dialling.cancel()
        if self._wire is not None:
            self._wire.close()
            self._wire = None

"""The connections of a store over a network: for threads, as many as are asking at the same time, and one for each
event loop.

This module must not know what goes over them.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.loops import calls_here

T = TypeVar("T")


def overdue(name: str, timeout_s: float, *, begins_tls: bool = False) -> StoreOutage:
    """The outage of a call that got no answer in time. `name` is the server's, without its password; `begins_tls`: was
    it to begin TLS? A server that speaks none may wait for more.
    """
    also = ", and does it speak TLS" if begins_tls else ""
    return StoreTimeout(name, f"no answer within {timeout_s:g} s: is the server up and near{also}?")


def anew(outage: StoreOutage) -> StoreOutage:
    """The same outage, for somebody else: what is raised keeps all that it went through."""
    kind = StoreTimeout if isinstance(outage, StoreTimeout) else StoreUnavailable
    made = kind(outage.store, outage.problem)
    made.is_of_server = outage.is_of_server
    return made


class BlockingConnection(Protocol):
    """A connection that is asked by one thread at a time."""

    is_usable: bool
    """May it be asked again?"""

    def is_quiet(self) -> bool:
        """Is there nothing to read, not even its end, as there should be before it is asked?"""
        ...

    def ask(self, packed: bytes, count: int, left_s: float | None = None, /) -> list[Any]:
        """Send requests, and wait for their `count` replies, for as long as connections do, or for `left_s` seconds.
        Where that fails, it is of no use any more.
        """
        ...

    def close(self) -> None:
        """Close it. In a forked process, it stays open for the parent."""
        ...


class AwaitedConnection(Protocol):
    """A connection of an event loop, which many ask at a time."""

    is_usable: bool

    def ask(self, request: PendingRequest, /) -> None:
        """Send a request, and have its replies told."""
        ...

    def retire(self) -> None:
        """Take no more requests, and close when the last one is answered or given up."""
        ...

    def close(self) -> None:
        """Close at once. Who is still waiting is told so."""
        ...


class Connector(Protocol):
    """Opens connections."""

    name: str
    """Where to, without a password."""

    @property
    def timeout_s(self) -> float:
        """How long to wait for a connection, and on it for an answer."""
        ...

    def connect(self, left_s: float | None = None, /) -> BlockingConnection:
        """Open a connection, within the timeout or what is left of it."""
        ...

    async def connect_async(self) -> AwaitedConnection: ...
    def outage(self, error: Exception, /) -> StoreOutage:
        """The outage that an error on connecting, sending or receiving means."""
        ...


class ConnectionPool:
    """The connections of a process: as many as threads are asking at the same time. Safe to share between threads,
    and with forked processes.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._idle: deque[BlockingConnection] = deque()
        begin_afresh_in_child(self, ConnectionPool.close)
        # A pool that is dropped closes what it has before the collector comes to the sockets, each of which would warn.
        weakref.finalize(self, _close_all, self._idle).atexit = False

    def ask(self, packed: bytes, count: int, left_s: float | None = None) -> list[Any]:
        """Ask on a connection that nobody is using: see `BlockingConnection.ask`. What that raises comes through, and
        why none can be opened. If one has to be, the time is for both.
        """
        while (connection := take_last(self._idle)) is not None and not connection.is_quiet():
            connection.close()
        if connection is None:
            began_s = time.monotonic()
            connection = self._connector.connect(left_s)
            took_s = time.monotonic() - began_s
            left_s = (self._connector.timeout_s if left_s is None else left_s) - took_s
            if left_s < took_s / 2:  # an answer would hardly come in time: whoever asks next has a connection
                self._idle.append(connection)
                raise TimeoutError("connecting took too long")
        try:
            replies = connection.ask(packed, count, left_s)
        except BaseException:  # were we interrupted, the next reply on it would be to this request
            connection.close()
            raise
        if connection.is_usable:
            self._idle.append(connection)
        else:
            connection.close()
        return replies

    def close(self) -> None:
        """Close the connections on which nobody is asking."""
        _close_all(self._idle)


def take_last(idle: deque[T]) -> T | None:
    """Take the last one, if there is one."""
    try:
        return idle.pop()
    except IndexError:  # there is none, or another thread took the last one
        return None


def _close_all(idle: deque[BlockingConnection]) -> None:
    while (connection := take_last(idle)) is not None:
        connection.close()


Replied = Callable[[list[Any] | StoreOutage], None]
"""Gets the replies, or why there are none."""


class PendingRequest:
    """Bytes that go in one write, and wait for their replies."""

    __slots__ = ("connection", "count", "packed", "replied", "replies")

    def __init__(self, packed: bytes, count: int, replied: Replied) -> None:
        self.packed = packed
        self.count = count
        self.replies: list[Any] = []
        self.replied: Replied | None = replied
        """None once nobody waits for the replies, or they are there."""
        self.connection: AwaitedConnection | None = None
        """Where it was sent."""

    def give_up(self) -> None:
        """Wait no longer. No other request goes where this one was not answered."""
        self.replied = None
        if self.connection is not None:
            self.connection.retire()


class LoopConnection:
    """The connection of one event loop, opened when it is needed, and the requests that wait for that. To be made in
    that loop, and used in no other. What is dropped is closed: the loop would keep the connection.
    """

    _connection: AwaitedConnection | None = None

    def __init__(self, connector: Connector) -> None:
        self._call_here = calls_here()
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
            self._connection = await self._connector.connect_async()
        except Exception as error:  # whatever hinders it is an outage
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
        """As `retire`, from any thread."""
        self._call_here(self.retire)

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_usable:
            self._call_here(connection.retire)

    def close(self) -> None:
        """Close at once."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

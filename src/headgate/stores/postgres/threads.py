"""The connections of threads: a few, opened when they are needed."""

from __future__ import annotations

import queue
import time
import weakref
from collections import deque
from typing import Final, Protocol

from headgate.drive import drive
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.names import names
from headgate.stores.postgres.address import Hosts, Parameters, conninfo, resolving
from headgate.stores.postgres.connection import Busy, Connection, connecting, run_blocking
from headgate.stores.remote.connections import take_last

LOOK_AGAIN_S: Final = 0.005


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


class _Slot:
    """The right to have a connection. It is freed when that is closed: an outage that somebody keeps holds all that it
    went through. Where an interruption comes between, it is free when nobody holds it any more.
    """

    __slots__ = ("__weakref__", "_all")

    def __init__(self, slots: weakref.WeakSet[_Slot]) -> None:
        self._all = slots
        slots.add(self)

    def free(self) -> None:
        self._all.discard(self)


class OwnConnections:
    """At most so many connections of our own. No lock: a signal's handler may ask in the middle of a call."""

    def __init__(self, parameters: Parameters, most: int, hosts: Hosts) -> None:
        self._parameters: Final = parameters
        self._hosts: Final = hosts
        self._most: Final = most
        self._begin()
        begin_afresh_in_child(self, OwnConnections._begin_afresh)

    def _begin(self) -> None:
        self._idle: deque[Connection] = deque()
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._waiting = 0
        self._freed: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Wakes somebody who waits; who misses that looks again soon."""

    def _begin_afresh(self) -> None:
        self.close_idle()
        self._begin()

    def take(self, deadline: float) -> Connection:
        while True:
            while (connection := take_last(self._idle)) is not None:
                if connection.is_quiet():
                    return connection
                connection.close()
            slot = _Slot(self._slots)
            if len(self._slots) <= self._most:
                return self._connect(slot, deadline)
            slot.free()
            self._wait(deadline)

    def _connect(self, slot: _Slot, deadline: float) -> Connection:
        try:
            resolved = drive(resolving(self._parameters), lambda host: names.find(host, deadline - time.monotonic()))
        except BaseException:
            slot.free()
            raise
        text = conninfo(self._hosts.in_order(resolved))
        return run_blocking(connecting(text, self._hosts.avoid, slot), deadline)

    def _wait(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise Busy("all of max_connections are in use")
        self._waiting += 1
        try:
            self._freed.get(timeout=min(left_s, LOOK_AGAIN_S))
        except queue.Empty:
            pass
        finally:
            self._waiting -= 1

    def put(self, connection: Connection) -> None:
        if connection.is_usable:
            self._idle.append(connection)
        else:
            connection.close()
        if self._waiting > 0:
            self._freed.put(None)

    def close_idle(self) -> None:
        while (connection := take_last(self._idle)) is not None:
            connection.close()

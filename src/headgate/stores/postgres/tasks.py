"""The connections of an event loop: a few, opened when they are needed. Or those of a user's asyncio pool."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from headgate.drive import drive_async
from headgate.runtime.loops import calls_here, start
from headgate.runtime.names import names
from headgate.stores.postgres.address import Hosts, Parameters, conninfo, resolving
from headgate.stores.postgres.connection import READ, WRITE, Connection, Steps, connecting
from headgate.stores.postgres.pools import of_pool, taking

T = TypeVar("T")


class LoopConnections:
    """The connections of one event loop. To be made in that loop, and used in no other.

    :param timeout_s: how long the lookup of a host's name may take; a call's deadline is the caller's to keep.
    :param pool: a user's `psycopg_pool.AsyncConnectionPool`; without it, they are our own, at most so many.
    :param pool_timeout_s: how long its connections are waited for.
    """

    def __init__(
        self,
        parameters: Parameters,
        most: int,
        hosts: Hosts,
        timeout_s: float,
        pool: Any = None,
        pool_timeout_s: float = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._call_here = calls_here()
        self._parameters: Final = parameters
        self._hosts: Final = hosts
        self._timeout_s: Final = timeout_s
        self._pool: Final = pool
        self._pool_timeout_s: Final = pool_timeout_s
        self._free: Final = asyncio.Semaphore(most)
        self._idle: list[Connection] = []
        self._waiting: set[asyncio.Future[None]] = set()
        """Who waits for a socket."""
        self._is_retired = False

    async def take(self) -> Connection:
        """Take a connection, which is the caller's alone until it is put back."""
        if self._pool is not None:
            return await drive_async(taking(), self._ask_pool)
        await self._free.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_quiet():
                    return connection
                connection.close()
            resolved = await drive_async(
                resolving(self._parameters), lambda host: names.find_async(host, self._timeout_s)
            )
            return await self.run(connecting(conninfo(self._hosts.in_order(resolved)), self._hosts.avoid))
        except BaseException:
            self._free.release()
            raise

    async def _ask_pool(self, back: Any) -> Any:
        """Put a connection back, or take another one."""
        if back is not None:
            start(self._pool.putconn(back))
            return None
        try:
            return await self._pool.getconn(timeout=self._pool_timeout_s)
        except Exception as error:
            raise of_pool(error) from None

    def put(self, connection: Connection) -> None:
        """Put a connection back. One that is of no use any more is closed."""
        if not connection.is_usable or (self._is_retired and self._pool is None):
            connection.close()
        elif self._pool is None:
            self._idle.append(connection)
        if self._pool is None:
            self._free.release()
        else:
            start(self._pool.putconn(connection.lent))

    async def run(self, steps: Steps[T]) -> T:
        """Do work to its end."""
        try:
            while True:
                await self._ready(*next(steps))
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            steps.close()

    async def _ready(self, socket: int, events: int) -> None:
        """Wait until a socket is ready for one of the events."""
        loop = self._loop
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        try:
            if events & READ:
                loop.add_reader(socket, _wake, future)
            if events & WRITE:
                loop.add_writer(socket, _wake, future)
            await future
        finally:
            self._waiting.discard(future)
            if events & READ:
                loop.remove_reader(socket)
            if events & WRITE:
                loop.remove_writer(socket)

    def close(self) -> None:
        """Close at once. Who is still waiting is told so."""
        self.retire()
        for future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionResetError("it was closed"))

    def retire(self) -> None:
        """Close each as soon as nobody is asking there, now and from now on."""
        self._is_retired = True
        while self._idle:
            self._idle.pop().close()

    def retire_soon(self) -> None:
        """As `retire`, from any thread."""
        self._call_here(self.retire)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

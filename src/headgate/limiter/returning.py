"""Gives back the tokens that a limiter drew ahead of need and nobody used: when they are idle, when the limiter is
closed, and when the process ends.

This module must not know how a store is asked.
"""

from __future__ import annotations

import asyncio
import atexit
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from headgate.drive import drive, drive_async
from headgate.lease import Leases
from headgate.plans.commands import Ask, Command
from headgate.runtime.daemons import Daemon, InterpreterEnds
from headgate.runtime.loops import running_loop

RETURNING_AT_EXIT_S: Final = 1.0
"""For how long tokens are given back when the process ends."""
_drawing: Final[weakref.WeakSet[Returner]] = weakref.WeakSet()


class Returner:
    """Gives back what a blocking limiter drew, in a thread that lives while anything is held.

    :param send: does what a plan asks for.
    """

    def __init__(self, leases: Leases, send: Callable[[Command], Any]) -> None:
        self._leases = leases
        self._send = send
        self.daemon: Final = Daemon("headgate-leases", self._return_idle)

    def keep_going(self) -> None:
        """See to it that what is held now is given back when it is idle."""
        if self._leases.is_holding and not self.daemon.is_alive:
            _drawing.add(self)
            self.daemon.start()

    def _return_idle(self) -> None:
        with suppress(InterpreterEnds):
            drive(self._leases.returning(), self._send_or_end)

    def _send_or_end(self, command: Command) -> Any:
        if isinstance(command, Ask):
            return self._send(command)
        if not self.daemon.sleep(command.duration_us / 1_000_000):
            raise InterpreterEnds
        return command.duration_us

    def return_all(self) -> None:
        """Give back all that nobody used. The thread ends."""
        drive(self._leases.giving_back(only_idle=False), self._send)
        if self.daemon.is_alive:
            self.daemon.ring()


class AsyncReturner:
    """Gives back what an asyncio limiter drew, in a task that lives while anything is held."""

    def __init__(self, leases: Leases, send: Callable[[Command], Awaitable[Any]]) -> None:
        self._leases = leases
        self._send = send
        self.task: asyncio.Task[None] | None = None

    def keep_going(self) -> None:
        """See to it that what is held now is given back when it is idle."""
        task = self.task
        if self._leases.is_holding and (task is None or task.done() or task.get_loop().is_closed()):
            work = drive_async(self._leases.returning(), self._send)
            self.task = asyncio.create_task(work, name="headgate-leases")

    async def return_all(self) -> None:
        """Give back all that nobody used."""
        if self.task is not None and self.task.get_loop() is running_loop():
            self.task.cancel()
        await drive_async(self._leases.giving_back(only_idle=False), self._send)


def _return_at_exit() -> None:
    until = time.monotonic() + RETURNING_AT_EXIT_S
    for returner in list(_drawing):
        if time.monotonic() < until:  # where no store answers, the process is to end all the same
            returner.return_all()


atexit.register(_return_at_exit)

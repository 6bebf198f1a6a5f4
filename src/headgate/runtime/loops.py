"""Things that each event loop has of its own, made when they are first asked for, forgotten when the loop has ended.
And work that outlives the task which began it.

This module must not know what that is.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from headgate.errors import InvalidUse

T = TypeVar("T")
_Loop = asyncio.AbstractEventLoop
_finishing: Final[set[asyncio.Future[Any]]] = set()
"""Work that outlives the cancelled task which began it; a loop holds its tasks only weakly."""


def running_loop() -> _Loop:
    """The event loop that runs here.

    :raises InvalidUse: if there is none of asyncio: nothing has been asked yet.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise no_loop() from None


def no_loop() -> InvalidUse:
    """The error to raise where no event loop of asyncio runs."""
    return InvalidUse(
        "no event loop of asyncio runs here: AsyncLimiter is for asyncio and uvloop (or anyio on one of them). "
        "Under trio, ask a Limiter in a thread: await trio.to_thread.run_sync(limiter.try_acquire, key)"
    )


def calls_here() -> Callable[[Callable[[], object]], None]:
    """Make something that has functions called in this event loop, from any thread. Once the loop is closed, and in a
    forked process, where it does not run, nothing happens.
    """
    loop, pid = running_loop(), os.getpid()

    def call(function: Callable[[], object]) -> None:
        if pid == os.getpid():
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(function)

    return call


class PerLoop(Generic[T]):
    """A thing for each event loop. Safe to share between threads, whose loops come and go."""

    def __init__(self, make: Callable[[_Loop], T]) -> None:
        self._make = make
        self._things: weakref.WeakKeyDictionary[_Loop, T] = weakref.WeakKeyDictionary()
        self._latest: tuple[_Loop, T] | None = None
        """The one that was asked for last: mostly, there is no other."""

    def get(self, loop: _Loop) -> T:
        """Get the thing of a loop.

        :raises InvalidUse: if it has nothing yet, and does not run.
        """
        latest = self._latest
        if latest is not None and latest[0] is loop:
            return latest[1]
        thing = self._things.get(loop)
        if thing is None:
            if not loop.is_running():  # what a future belongs to by default, where no loop runs
                raise no_loop()
            for other in self.loops():
                if other.is_closed():
                    self._things.pop(other, None)
            thing = self._things[loop] = self._make(loop)
        self._latest = (loop, thing)
        if self._things.get(loop) is not thing:  # another thread has just taken it away
            self._latest = None
        return thing

    def pop(self, loop: _Loop) -> T | None:
        """Take the thing of a loop away, if there is one."""
        self._latest = None
        return self._things.pop(loop, None)

    def loops(self) -> list[_Loop]:
        """List the loops that have something."""
        return [loop for reference in self._things.keyrefs() if (loop := reference()) is not None]


def start(work: Awaitable[T]) -> asyncio.Future[T]:
    """Begin `work`, which goes on to its end whether or not anybody holds on to it."""
    task = asyncio.ensure_future(work)
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)
    return task


async def finish(work: Awaitable[T]) -> T:
    """Do `work` to its end even if the caller is cancelled meanwhile: it gives back what the caller took."""
    task = start(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise

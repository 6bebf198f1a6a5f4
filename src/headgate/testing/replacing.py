"""Limiters under test: none of them limits, or all of them decide on one memory store, by a clock that the test moves.

While a block lasts, another port stands where limiters' commands go (see `headgate.limiter.port`). Limiters that exist
already follow too, such as those of the modules under test, and production code never asks whether it is being tested.
It holds for the whole process, whatever the thread: run tests that use it in processes of their own, not in threads.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.decision.untouched import untouched
from headgate.hits import Group
from headgate.limiter.holds import Held, Renews
from headgate.limiter.port import Port, replace
from headgate.stores.memory import MemoryStore

_YIELDS: Final = 16
"""How often a waiting task lets the others run before it looks who is next: more than a call takes to begin to wait."""


@contextmanager
def limits_off() -> Iterator[None]:
    """Every limiter in the process admits everything while the block lasts, and no store is asked.

    >>> from headgate import Limiter
    >>> limiter = Limiter("1/hour", store="redis://not.there")
    >>> with limits_off():
    ...     [bool(limiter.try_acquire("ann")) for _ in range(3)]
    [True, True, True]
    """
    with _replaced(_OpenPort()):
        yield


@contextmanager
def deterministic() -> Iterator[ManualClock]:
    """Every limiter in the process decides on one fresh memory store while the block lasts, by the clock that is handed
    out.

    A waiting `acquire` moves the clock on to its turn instead of sleeping. Of several tasks that wait, the one whose
    turn comes first goes first. Slots that are held are renewed, however far the clock jumps.

    >>> from headgate import Limiter
    >>> limiter = Limiter("1/hour", store="redis://not.there")
    >>> with deterministic() as clock:
    ...     first, second = limiter.try_acquire("ann"), limiter.try_acquire("ann")
    ...     clock.advance(seconds=3600)
    ...     bool(first), second.retry_after, bool(limiter.try_acquire("ann"))
    (True, 3600.0, True)
    """
    port = _TimedPort()
    with _replaced(port):
        yield port.clock


@contextmanager
def _replaced(port: Port) -> Iterator[None]:
    """Let all limiters use this port."""
    restore = replace(lambda _: port)
    try:
        yield
    finally:
        restore()


class _OpenPort(Port):
    """Nobody has ever asked before, nor ever waits."""

    is_real = False

    def __init__(self) -> None:
        super().__init__(_OpenStore())

    def renewer(self) -> Renews:
        return _NoRenewer()

    renewer_async = renewer

    def sleep(self, duration_us: int) -> int:
        return duration_us

    async def sleep_async(self, duration_us: int) -> int:
        return duration_us


class _OpenStore:
    """Admits everything."""

    timeout = float("inf")

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        return [untouched(group) for group in groups]

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        return self.decide(groups)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class _NoRenewer:
    """Renews nothing, for nothing expires."""

    def add(self, held: Held) -> None:
        pass

    def discard(self, held: Held) -> None:
        pass


class _TimedPort(Port):
    """A memory store, and a clock that waiting moves on."""

    is_real = False

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._timed = _TimedStore(self.clock)
        super().__init__(self._timed)
        self._lock = threading.RLock()
        self._sleeping: set[tuple[int, int]] = set()
        self._numbers = itertools.count()

    def renewer(self) -> Renews:
        return self._timed

    renewer_async = renewer

    def sleep(self, duration_us: int) -> int:
        with self._lock:
            self.clock.advance(microseconds=duration_us)
        return duration_us

    async def sleep_async(self, duration_us: int) -> int:
        started_us = self.clock()
        place = (started_us + duration_us, next(self._numbers))
        self._sleeping.add(place)
        try:
            while True:
                for _ in range(_YIELDS):
                    await asyncio.sleep(0)
                if min(self._sleeping) == place:
                    break
            with self._lock:
                self.clock.set(max(self.clock(), place[0]))
        finally:
            self._sleeping.discard(place)
        return self.clock() - started_us


class _TimedStore(_OpenStore):
    """A memory store that renews the slots of those who hold them, however far its clock jumps."""

    def __init__(self, clock: ManualClock) -> None:
        self._store = MemoryStore(clock)
        self._lock = threading.RLock()
        self._held: dict[Held, list[Group]] = {}

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        with self._lock:
            self._renew()
            return self._store.decide(groups)

    def add(self, held: Held) -> None:
        with self._lock:
            self._held[held] = held.groups

    def discard(self, held: Held) -> None:
        with self._lock:
            self._held.pop(held, None)

    def _renew(self) -> None:
        """Do what the renewals in the background would have done by now."""
        for groups in self._held.values():
            for group in groups:
                if not self._store.decide((group,))[0]:  # expired in one jump: nobody has asked since
                    self._store.decide((group._replace(action="spend"),))

"""Learning who is to be asked, where others say it: the nodes of a cluster, or sentinels.

By one thread, and by one task of each event loop, at a time; not more often than it makes sense, nor for longer. This
module must not know what is learnt.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

from headgate.drive import Plan, drive, drive_async
from headgate.errors import StoreOutage
from headgate.plans.topology import Address, Question, TimeIsUp
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.loops import PerLoop, running_loop
from headgate.stores.remote.connections import anew, overdue
from headgate.stores.remote.endpoint import Endpoint

LEARN_EVERY_S: Final = 0.1
"""It is learnt again after this time at the earliest, however often servers fail."""


class Knowledge(Protocol):
    """Who is to be asked, as far as is known."""

    @property
    def question(self) -> Question:
        """The question to those who know."""

    is_doubtful: bool
    """Should it be learnt (anew)?"""
    nodes: frozenset[Address]
    """The servers to be asked; empty if that is not known."""

    def learning(self, name: str, /) -> Plan[Address, None]:
        """The plan that learns it. It asks for addresses, and receives what those who know reply to the question, an
        outage, or `TimeIsUp`.
        """
        ...


class Learning:
    """When somebody's knowledge is learnt, and by whom. Safe to share between threads, event loops and forked
    processes.

    :param name: what outages call the whole, where no server is at fault.
    :param timeout_s: how long to ask, at most.
    :param server_at: finds who is at an address.
    :param learnt: is called when something has been learnt.
    :param again_s: after so long it is asked for again, though nobody doubts; None for never.
    """

    def __init__(
        self,
        name: str,
        timeout_s: float,
        knowledge: Knowledge,
        server_at: Callable[[Address], Endpoint],
        learnt: Callable[[], None],
        again_s: float | None = None,
    ) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._knowledge = knowledge
        self._server_at = server_at
        self._learnt = learnt
        self._next_at_s = 0.0
        self._again_s = again_s
        self._again_at_s = 0.0
        self._locks = PerLoop(lambda _: asyncio.Lock())
        self.begin()
        begin_afresh_in_child(self, Learning.begin)
        self._problem: StoreOutage | None = None
        """Why it could not be learnt, where that is so."""

    def begin(self) -> None:
        """Begin afresh: in a forked process, whoever was learning is not there."""
        self._lock = threading.RLock()  # a signal's handler may ask, too, in the thread that learns
        """Held while a thread learns: the others who cannot go on without that wait for it."""

    def is_due(self) -> bool:
        """Is it to be learnt now?"""
        if self._is_doubted():
            return time.monotonic() >= self._next_at_s
        return self._again_s is not None and time.monotonic() >= self._again_at_s

    def _is_doubted(self) -> bool:
        known = self._knowledge
        return known.is_doubtful or not known.nodes

    def _claims_routine(self) -> bool:
        """Is nothing doubted, and are we who asks again? Whoever comes meanwhile does not, and goes on."""
        if self._again_s is None or self._is_doubted():
            return False
        self._again_at_s = time.monotonic() + self._again_s
        return True

    def learn(self, left_s: float | None = None) -> None:
        """Learn it, blocking, if it is to be, in what is left to the call. Whom nobody tells goes on with what is
        known.
        """
        until_s = time.monotonic() + (self._timeout_s if left_s is None else left_s)
        is_routine = self._claims_routine()
        if not self._lock.acquire(timeout=max(0.0, until_s - time.monotonic())):
            return
        try:
            if is_routine or self.is_due():  # still, though somebody else has just tried
                with self._under_way(until_s):
                    drive(self._knowledge.learning(self._name), partial(self._in_time, until_s))
        finally:
            self._lock.release()

    async def learn_async(self, left_s: float) -> None:
        """As `learn`."""
        until_s = time.monotonic() + left_s
        is_routine = self._claims_routine()
        lock = self._locks.get(running_loop())
        try:
            async with asyncio.timeout(left_s):
                await lock.acquire()
        except TimeoutError:
            return
        try:
            if is_routine or self.is_due():
                with self._under_way(until_s):
                    await drive_async(self._knowledge.learning(self._name), partial(self._in_time_async, until_s))
        finally:
            lock.release()

    def problem(self) -> StoreOutage | None:
        """Why it could not be learnt; None if it could."""
        outage = self._problem
        return None if outage is None else anew(outage)

    def _in_time(self, until_s: float, address: Address) -> object:
        left_s = until_s - time.monotonic()
        return self._server_at(address).replies_to(*self._knowledge.question, left_s) if left_s > 0 else TimeIsUp()

    async def _in_time_async(self, until_s: float, address: Address) -> object:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return TimeIsUp()
        try:
            async with asyncio.timeout(left_s):
                return await self._server_at(address).replies_to_async(*self._knowledge.question)
        except TimeoutError:
            return overdue(str(address), self._timeout_s)

    @contextmanager
    def _under_way(self, until_s: float) -> Iterator[None]:
        """It is asked until then."""
        if self._problem is not None:
            self._next_at_s = until_s  # whoever comes meanwhile is told so, and does not wait
        try:
            yield
            self._problem = None
            self._learnt()
        except StoreOutage as outage:
            self._problem = outage.with_traceback(None)
        self._again_at_s = time.monotonic() + (self._again_s or 0)
        self._next_at_s = time.monotonic() + LEARN_EVERY_S  # not after an interruption, which says nothing

"""Coalescing: calls that arrive while a trip to the store is under way travel together in the next one.

Nobody waits for company: a lone call leaves at once, and there is no timer. Riders are asked for in the order in
which they came. Threads take turns: whoever finds no trip under way leads one, and hands over to the first who came
meanwhile. Tasks leave the trips to one task of their event loop, which lives as long as somebody waits.

The decisions are those that the calls would have had alone, in the same order. This module must not know what a store
is: it is given what makes a trip.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from headgate.decision import Decision
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.policy import give_back_groups

MAX_GROUPS: Final = 256
"""How many groups travel together. A server is not to be held up by one script for more than a few milliseconds."""

Answer = Decision | StoreOutage
"""What a group gets from a trip: each rider fails alone."""
Trip = Callable[[Sequence[Group]], list[Answer]]
AsyncTrip = Callable[[Sequence[Group]], Awaitable[list[Answer]]]
Overdue = Callable[[], StoreOutage]
"""Makes the error of a rider whose deadline passes while it waits."""


class _Ride:
    """The groups of one caller."""

    __slots__ = ("answers", "groups", "is_gone", "is_leading", "woken")

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.answers: list[Answer] | None = None
        self.is_leading = False
        self.is_gone = False
        """Was the caller interrupted while the ride was on its way?"""
        self.woken = threading.Lock()
        self.woken.acquire()


class ThreadCoalescer:
    """Coalesces the calls of threads. Survives a fork: the child begins with an empty queue.

    A caller waits at most for its deadline in the queue, and then, if it is its turn to lead, for that of its own trip.
    """

    def __init__(self, trip: Trip, overdue: Overdue, timeout: float) -> None:
        self._trip = trip
        self._overdue = overdue
        self._timeout = timeout
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._road = threading.Lock()
        """Held while a trip is under way; handed on with the lead."""
        self._lock = threading.Lock()
        """Guards the queue, and the road's release against those who are just about to queue up."""
        self._waiting: deque[_Ride] = deque()

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Answer some groups, in a trip of our own or in somebody's."""
        if not groups:
            return []
        if self._pid != os.getpid():
            self._begin()
        if self._road.acquire(blocking=False):
            return self._lead(groups)
        with self._lock:
            leads = self._road.acquire(blocking=False)
            if not leads:
                ride = _Ride(groups)
                self._waiting.append(ride)
        if leads:
            return self._lead(groups)
        self._wait(ride)
        return self._lead(groups) if ride.answers is None else ride.answers

    def _wait(self, ride: _Ride) -> None:
        """Sleep until the ride is answered, or it is its turn to lead."""
        try:
            if ride.woken.acquire(timeout=self._timeout):
                return
        except BaseException:  # a signal's
            ride.is_gone = not self._leaves(ride)
            if ride.is_leading:  # just now; somebody else has to
                self._hand_over()
            elif ride.answers is not None:
                self.decide(_returns(ride.answers))
            raise
        if self._leaves(ride) or not (ride.is_leading or ride.answers is not None):
            raise self._overdue()

    def _leaves(self, ride: _Ride) -> bool:
        """Take a ride out of the queue. False if it is in a trip, answered, or leading."""
        with self._lock:
            if ride in self._waiting:
                self._waiting.remove(ride)
                return True
            return False

    def _lead(self, own: Sequence[Group]) -> list[Answer]:
        """Make a trip for us and for all who are waiting, and hand over to whoever came meanwhile."""
        riders: list[_Ride] = []
        try:
            if not self._waiting:
                return _answers_of(self._trip, own)
            groups = list(own)
            with self._lock:
                while self._waiting and len(groups) + len(self._waiting[0].groups) <= MAX_GROUPS:
                    rider = self._waiting.popleft()
                    riders.append(rider)
                    groups += rider.groups
            answers = _answers_of(self._trip, groups)
            at = len(own)
            returns: list[Group] = []
            for rider in riders:
                rider.answers = answers[at : at + len(rider.groups)]
                at += len(rider.groups)
                if rider.is_gone:
                    returns += _returns(rider.answers)
            if returns:
                _answers_of(self._trip, returns)
            return answers[: len(own)]
        finally:
            for rider in riders:
                if rider.answers is None:  # we were interrupted, and nobody knows their answers
                    rider.answers = [self._overdue()] * len(rider.groups)
                rider.woken.release()
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting:
                successor = self._waiting.popleft()
                successor.is_leading = True
                successor.woken.release()
            else:
                self._road.release()


def _answers_of(trip: Trip, groups: Sequence[Group]) -> list[Answer]:
    try:
        return trip(groups)
    except StoreOutage as outage:
        return [outage] * len(groups)


def _returns(answers: Sequence[Answer]) -> list[Group]:
    """What gives back all that was admitted for a caller that is gone."""
    return [group for answer in answers if isinstance(answer, Decision) for group in give_back_groups(answer)]


class AsyncCoalescer:
    """Coalesces the calls of tasks, for each event loop by itself."""

    def __init__(self, trip: AsyncTrip, overdue: Overdue, timeout: float) -> None:
        self._trip = trip
        self._overdue = overdue
        self._timeout = timeout
        self._lanes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = weakref.WeakKeyDictionary()

    async def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Answer some groups, in the next trip of this event loop."""
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane(self._trip)
        future: asyncio.Future[list[Answer]] = loop.create_future()
        lane.board(loop, groups, future)
        deadline = loop.call_later(self._timeout, self._expire, future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                lane.give_back(loop, future.result())  # the answer was there, and we were cancelled all the same
            raise
        finally:
            deadline.cancel()

    def _expire(self, future: asyncio.Future[list[Answer]]) -> None:
        if not future.done():
            future.set_exception(self._overdue())


class _Lane:
    """The queue of one event loop, and the task that makes its trips."""

    __slots__ = ("_task", "_trip", "_waiting")

    def __init__(self, trip: AsyncTrip) -> None:
        self._trip = trip
        self._waiting: deque[tuple[Sequence[Group], asyncio.Future[list[Answer]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def board(
        self, loop: asyncio.AbstractEventLoop, groups: Sequence[Group], future: asyncio.Future[list[Answer]]
    ) -> None:
        """Queue up. The task starts in the loop's next round, with all who come in this one."""
        self._waiting.append((groups, future))
        if self._task is None:
            self._task = loop.create_task(self._run(), name="headgate-trips")

    async def _run(self) -> None:
        riders: list[tuple[Sequence[Group], asyncio.Future[list[Answer]]]] = []
        try:
            while self._waiting:
                riders = []
                groups: list[Group] = []
                while self._waiting and (not groups or len(groups) + len(self._waiting[0][0]) <= MAX_GROUPS):
                    rider = self._waiting.popleft()
                    if not rider[1].done():  # cancelled or overdue before it was sent: nothing was asked
                        riders.append(rider)
                        groups += rider[0]
                if not groups:
                    continue
                try:
                    answers = await self._trip(groups)
                except StoreOutage as outage:
                    answers = [outage] * len(groups)
                except Exception as error:  # a fault of ours: each rider gets to see it
                    for _, future in riders:
                        if not future.done():
                            future.set_exception(error)
                    continue
                self._answer(riders, answers)
        finally:
            self._task = None
            for _, future in [*riders, *self._waiting]:  # we were cancelled, with the whole loop
                future.cancel()

    def _answer(
        self, riders: list[tuple[Sequence[Group], asyncio.Future[list[Answer]]]], answers: list[Answer]
    ) -> None:
        at = 0
        for groups, future in riders:
            own = answers[at : at + len(groups)]
            at += len(groups)
            if not future.done():
                future.set_result(own)
            elif future.cancelled():
                self.give_back(asyncio.get_running_loop(), own)

    def give_back(self, loop: asyncio.AbstractEventLoop, answers: list[Answer]) -> None:
        """Give back what was admitted for a caller that is gone."""
        for group in _returns(answers):
            self.board(loop, [group], loop.create_future())

"""How threads travel together: they take turns in leading a trip, and the others ride along."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from headgate.coalesce.riders import MAX_GROUPS, GiveBack, Overdue
from headgate.decision import Answer
from headgate.errors import StoreOutage
from headgate.forks import begin_afresh_in_child
from headgate.hits import Group
from headgate.policy import returns_of

Trip = Callable[[Sequence[Group]], list[Answer]]
"""Makes a trip."""


class _Ride:
    """The groups of one caller."""

    __slots__ = ("answers", "groups", "is_gone", "is_leading", "thread", "woken")

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.answers: list[Answer] | None = None
        self.is_leading = False
        self.is_gone = False
        """Was the caller interrupted while the ride was on its way?"""
        self.thread = threading.get_ident()
        self.woken = threading.Lock()
        self.woken.acquire()


class ThreadCoalescer:
    """Coalesces the calls of threads. Survives a fork: the child begins with an empty queue.

    A caller waits at most for its deadline in the queue, and then, if it is its turn to lead, for that of its own trip.

    :param give_back: see `GiveBack`; without it, what is given back travels as all else does.
    """

    def __init__(self, trip: Trip, overdue: Overdue, timeout: float, *, give_back: GiveBack | None = None) -> None:
        self._trip = trip
        self._overdue = overdue
        self._timeout = timeout
        self._give_back = give_back or self.decide
        self.begin()
        begin_afresh_in_child(self, ThreadCoalescer.begin)

    def begin(self) -> None:
        """Begin afresh: in a forked process, whoever waited or led is not there."""
        self._road: dict[str, int] = {}
        """The thread that leads, if one does. Taken in one step, so that whatever interrupts us, it says who has it."""
        self._lock = threading.Lock()
        """Guards the queue, and what befalls a ride."""
        self._waiting: deque[_Ride] = deque()

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Answer some groups, in a trip of our own or in somebody's."""
        if not groups:
            return []
        try:
            if self.try_lead():
                return self._lead(groups)
            ride = _Ride(groups)
            with self._lock:
                self._waiting.append(ride)
            self._pass_on()  # the road may have become free just before we queued up
            self._wait(ride)
            return self._lead(groups) if ride.answers is None else ride.answers
        except BaseException:  # a signal's, perhaps: somebody else has to lead, if it was our turn
            self.hand_over()
            raise

    def try_lead(self) -> bool:
        """May the caller make a trip of its own, since none is under way and nobody came before? If so, it has to
        `hand_over` after it.
        """
        own = threading.get_ident()
        return not self._waiting and self._road.setdefault("lead", own) == own

    def hand_over(self) -> None:
        """If we lead, the trip is over: whoever came first meanwhile leads the next one."""
        if self._road.get("lead") == threading.get_ident():
            self._road.pop("lead", None)
        if self._waiting:
            self._pass_on()

    def _pass_on(self) -> None:
        """If nobody leads, make the first in the queue do so.

        Whoever queues up calls this, and so does whoever ends a trip, each after what the other has to see.
        """
        mine: Any = object()  # not our ident: somebody may have made us lead just now
        try:
            while self._waiting and self._road.setdefault("lead", mine) is mine:
                with self._lock:
                    if self._waiting:
                        successor = self._waiting.popleft()
                        successor.is_leading = True
                        self._road["lead"] = successor.thread
                        successor.woken.release()
                        return
                self._road.pop("lead", None)
        except BaseException:
            if self._road.get("lead") is mine:
                self._road.pop("lead", None)
            raise

    def _wait(self, ride: _Ride) -> None:
        """Sleep until the ride is answered, or it is its turn to lead."""
        try:
            if ride.woken.acquire(timeout=self._timeout):
                return
        except BaseException:  # a signal's
            with self._lock:  # whoever answers a ride looks under it whether somebody is there
                if ride in self._waiting:
                    self._waiting.remove(ride)
                ride.is_gone = True
                answers = ride.answers
            if answers is not None:
                self._give_back(returns_of(answers))
            raise
        with self._lock:
            if ride in self._waiting:
                self._waiting.remove(ride)
            elif ride.is_leading or ride.answers is not None:
                return
        raise self._overdue()

    def _lead(self, own: Sequence[Group]) -> list[Answer]:
        """Make a trip for us and for all who are waiting, and hand over to whoever came meanwhile."""
        riders: list[_Ride] = []
        returns: list[Group] = []
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
            with self._lock:
                for rider in riders:
                    rider.answers = answers[at : at + len(rider.groups)]
                    at += len(rider.groups)
                    if rider.is_gone:
                        returns += returns_of(rider.answers)
        finally:
            for rider in riders:
                if rider.answers is None:  # we were interrupted, and nobody knows their answers
                    rider.answers = [self._overdue()] * len(rider.groups)
                rider.woken.release()
            self.hand_over()
        if returns:
            self._give_back(returns)
        return answers[: len(own)]


def _answers_of(trip: Trip, groups: Sequence[Group]) -> list[Answer]:
    try:
        return trip(groups)
    except StoreOutage as outage:
        return [outage] * len(groups)

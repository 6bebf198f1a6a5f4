"""How threads travel together: they take turns in leading a trip, and the others ride along.

No lock: what threads share is changed in single steps, so that a signal may come in anywhere, be it that its handler
asks in the middle of a call of the same thread, or that it raises. Who leads is a matter of company alone: were two to
lead at a time, each would make a trip of its own, and every answer would be as right.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

from headgate.batching.batch import MAX_GROUPS, GiveBack, Overdue
from headgate.decision import Answer
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.groups import returns_of
from headgate.runtime.forks import begin_afresh_in_child

Trip = Callable[[Sequence[Group]], list[Answer]]
"""Makes a trip."""


class _Ride:
    """The groups of one caller."""

    __slots__ = ("_fate", "answers", "groups", "thread", "woken")

    def __init__(self, groups: Sequence[Group], thread: int) -> None:
        self.groups = groups
        self.answers: list[Answer] | None = None
        self.thread = thread
        self.woken = threading.Lock()
        """Held until the caller is to wake: its ride is answered, or it is to lead."""
        self.woken.acquire()
        self._fate: dict[str, str] = {}

    def ends(self, how: Literal["answered", "gone"]) -> bool:
        """Say that the ride is answered, or that its caller was interrupted while it was on its way. Is it the first
        that is said? Whoever says the second gives back what was admitted for nobody.
        """
        return self._fate.setdefault("ends", how) == how

    def wake(self) -> None:
        """Wake the caller, who may have been woken before."""
        with suppress(RuntimeError):  # it is awake
            self.woken.release()


class ThreadCoalescer:
    """Coalesces the calls of threads. Survives a fork: the child begins with an empty queue.

    A caller waits at most for its deadline in the queue, and then, if it is its turn to lead, for that of its own trip.
    A call in the middle of a call of the same thread travels by itself: it must not wait for what it interrupts.

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
        self._waiting: deque[_Ride] = deque()
        self._queued: dict[int, _Ride] = {}
        """The rides of threads that are in the queue, or wait for their answer."""
        self._turns = 0
        """How often a leader has handed over."""

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Answer some groups, in a trip of our own or in somebody's."""
        if not groups:
            return []
        own = threading.get_ident()
        if self._is_asking(own):
            return _answers_of(self._trip, groups)
        try:
            if self.try_lead():
                return self._lead(groups)
            ride = _Ride(groups, own)
            try:
                self._queued[own] = ride
                self._waiting.append(ride)
                self._pass_on()  # the road may have become free just before we queued up
                self._wait(ride)
            finally:
                self._queued.pop(own, None)
            if ride.answers is None:
                return self._lead(groups)
            if self.is_leading():  # we were to lead, too: somebody looked at the queue before we were answered
                self.hand_over()
            return ride.answers
        except BaseException:  # a signal's, perhaps: somebody else has to lead, if it was our turn
            self.hand_over()
            raise

    def _is_asking(self, own: int) -> bool:
        """Is this thread in the middle of a call: was it interrupted by what makes this one?"""
        return own in self._queued or self._road.get("lead") == own

    def try_lead(self) -> bool:
        """May the caller make a trip of its own, since none is under way and nobody came before? If so, it has to
        `hand_over` after it.
        """
        own = threading.get_ident()
        return not self._waiting and self._road.setdefault("lead", own) == own

    def is_leading(self) -> bool:
        """Does this thread lead a trip? Then what asks now has interrupted that."""
        return self._road.get("lead") == threading.get_ident()

    def hand_over(self) -> None:
        """If we lead, the trip is over: whoever came first meanwhile leads the next one."""
        if self._road.get("lead") == threading.get_ident():
            self._road.pop("lead", None)
            self._turns += 1
        if self._waiting:
            self._pass_on()

    def _pass_on(self) -> None:
        """If nobody leads, make the first in the queue do so.

        Whoever queues up calls this, and so does whoever ends a trip, each after what the other has to see.
        """
        while (successor := _first(self._waiting)) is not None:
            if self._road.setdefault("lead", successor.thread) != successor.thread:
                return  # somebody leads, who will come by here
            # It leads from now on, even if we are interrupted: it wakes at its deadline at the latest, and finds that.
            if self._leave_queue(successor) and successor.answers is None:
                successor.wake()
                return
            if self._queued.get(successor.thread) is successor:  # it leads already, or will find that it does
                return
            self._road.pop("lead", None)  # it has just gone

    def _wait(self, ride: _Ride) -> None:
        """Sleep until the ride is answered, or it is its turn to lead."""
        turns = self._turns
        try:
            is_woken = ride.woken.acquire(timeout=self._timeout)
        except BaseException:  # a signal's
            self._leave(ride)
            raise
        if is_woken:
            return
        if self._leave_queue(ride):
            if turns == self._turns:
                # Whoever leads has done nothing for as long as a trip may take. A signal may have struck just when the
                # lead was to be handed over: from now on, it is free. At worst, two lead at a time.
                self._turns += 1
                self._road.pop("lead", None)
                self._pass_on()
        elif ride.answers is not None or self.is_leading():
            return
        raise self._overdue()

    def _leave_queue(self, ride: _Ride) -> bool:
        """Was it in the queue? It is no more."""
        try:
            self._waiting.remove(ride)
        except ValueError:
            return False
        return True

    def _leave(self, ride: _Ride) -> None:
        """The caller was interrupted, and nobody gets to see the answer."""
        if not self._leave_queue(ride) and not ride.ends("gone"):
            self._give_back(returns_of(ride.answers or ()))

    def _lead(self, own: Sequence[Group]) -> list[Answer]:
        """Make a trip for us and for all who are waiting, and hand over to whoever came meanwhile."""
        riders: list[_Ride] = []
        returns: list[Group] = []
        try:
            if not self._waiting:
                return _answers_of(self._trip, own)
            groups = list(own)
            while (rider := _first(self._waiting)) is not None and len(groups) + len(rider.groups) <= MAX_GROUPS:
                riders.append(rider)  # first, so that whatever interrupts us, it is answered
                if self._leave_queue(rider):
                    groups += rider.groups
                else:  # it has just gone
                    riders.pop()
            answers = _answers_of(self._trip, groups)
            at = len(own)
            for rider in riders:
                rider.answers = answers[at : at + len(rider.groups)]
                at += len(rider.groups)
                if not rider.ends("answered"):
                    returns += returns_of(rider.answers)
        finally:
            for rider in riders:
                if rider.answers is None:  # we were interrupted, and nobody knows their answers
                    self._leave_queue(rider)
                    rider.answers = [self._overdue()] * len(rider.groups)
                rider.wake()
            self.hand_over()
        if returns:
            self._give_back(returns)
        return answers[: len(own)]


def _first(waiting: deque[_Ride]) -> _Ride | None:
    try:
        return waiting[0]
    except IndexError:
        return None


def _answers_of(trip: Trip, groups: Sequence[Group]) -> list[Answer]:
    try:
        return trip(groups)
    except StoreOutage as outage:
        return [outage] * len(groups)

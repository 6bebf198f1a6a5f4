"""Batches of threads: they take turns in leading a batch, and the others wait for their answers.

No lock: what threads share is changed in single steps, so that a signal may come in anywhere, be it that its handler
asks in the middle of a call of the same thread, or that it raises. Who leads decides on company alone: were two to
lead at a time, each would make a round trip of its own, and every answer would be as right.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

from headgate.batching.batch import MAX_GROUPS, GiveBack, Overdue
from headgate.decision import Answer
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.groups import returns_of
from headgate.runtime.forks import begin_afresh_in_child

RoundTrip = Callable[[Sequence[Group], float | None], list[Answer]]
"""Makes a round trip, within so many seconds, or within the whole deadline (None)."""
_LEAST_S: Final = 0.001


class _Waiter:
    """A caller in the queue, and its groups."""

    __slots__ = ("_fate", "answers", "groups", "thread", "woken")

    def __init__(self, groups: Sequence[Group], thread: int) -> None:
        self.groups = groups
        self.answers: list[Answer] | None = None
        self.thread = thread
        self.woken = threading.Lock()
        """Held until the caller is to wake: it is answered, or it is to lead."""
        self.woken.acquire()
        self._fate: dict[str, str] = {}

    def ends(self, how: Literal["answered", "gone"]) -> bool:
        """Say that the caller is answered, or that it was interrupted while its groups were on their way. Is it the
        first that is said? Whoever says the second gives back what was admitted for nobody.
        """
        return self._fate.setdefault("ends", how) == how

    def wake(self) -> None:
        """Wake the caller, who may have been woken before."""
        with suppress(RuntimeError):  # it is awake
            self.woken.release()


class ThreadCoalescer:
    """Coalesces the calls of threads. Survives a fork: the child begins with an empty queue.

    A caller waits for its deadline at most: if it comes to lead after a while, its round trip has what is left of that.
    A call in the middle of a call of the same thread goes by itself: it must not wait for what it interrupts.

    :param give_back: see `GiveBack`; without it, what is given back is asked for as all else is.
    :param stalled: is told when a round trip takes longer than its deadline, by whoever waits behind it.
    """

    def __init__(
        self,
        round_trip: RoundTrip,
        overdue: Overdue,
        timeout: float,
        *,
        give_back: GiveBack | None = None,
        stalled: Callable[[], object] = lambda: None,
    ) -> None:
        self._round_trip = round_trip
        self._overdue = overdue
        self._timeout = timeout
        self._give_back = give_back or self.decide
        self._stalled = stalled
        self.begin()
        begin_afresh_in_child(self, ThreadCoalescer.begin)

    def begin(self) -> None:
        """Begin afresh: in a forked process, whoever waited or led is not there."""
        self._leader: dict[str, int] = {}
        """The thread that leads, if one does. Taken in one step, so that whatever interrupts us, it says who has it."""
        self._waiting: deque[_Waiter] = deque()
        self._asking: dict[int, _Waiter] = {}
        """The threads that are in the queue, or wait for their answer."""
        self._chosen: dict[int, _Waiter] = {}
        """By thread, whom it has chosen to lead, and is about to wake."""
        self._turns = 0
        """How often a leader has handed over."""

    def decide(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """Answer some groups, in a round trip of our own or in somebody's, within the deadline or what is left of
        it.
        """
        if not groups:
            return []
        own = threading.get_ident()
        if own in self._asking or self._leader.get("thread") == own:  # we interrupt a call of this thread
            return _answers_of(self._round_trip, groups, left_s)
        try:
            if self.try_lead():
                return self._lead(groups, left_s)
            waiter, since_s = _Waiter(groups, own), time.monotonic()
            try:
                self._asking[own] = waiter
                self._waiting.append(waiter)
                self._pass_on()  # the leader may have gone just before we queued up
                self._wait(waiter, left_s)
            finally:
                self._asking.pop(own, None)
            if waiter.answers is None:
                whole_s = self._timeout if left_s is None else left_s
                return self._lead(groups, max(_LEAST_S, whole_s - (time.monotonic() - since_s)))
            if self._leader.get("thread") == own:  # we were to lead, too, if somebody looked before we were answered
                self.hand_over()
            return waiter.answers
        except BaseException:  # a signal's, perhaps: somebody else has to lead, if it was our turn
            self.hand_over()
            raise

    def try_lead(self) -> bool:
        """May the caller make a round trip of its own, since none is under way and nobody came before? If so, it has to
        `hand_over` after it.
        """
        if self._leader or self._waiting:
            return False
        own = threading.get_ident()
        return self._leader.setdefault("thread", own) == own

    def hand_over(self) -> None:
        """If we lead, the round trip is over: whoever came first meanwhile leads the next one."""
        if self._leader.get("thread") == threading.get_ident():
            self._leader.pop("thread", None)
            self._turns += 1
        if self._waiting:
            self._pass_on()

    def _pass_on(self) -> None:
        """If nobody leads, make the first in the queue do so.

        Whoever queues up calls this, and so does whoever ends a round trip, each after what the other has to see.
        """
        own = threading.get_ident()
        chosen = self._chosen.get(own)
        if chosen is not None and self._leader.get("thread") == chosen.thread:
            # We interrupt a call of this thread that was about to wake it, and it could not wake before we are done.
            self._leave_queue(chosen)
            chosen.wake()
        while (successor := _first(self._waiting)) is not None:
            if self._leader.setdefault("thread", successor.thread) != successor.thread:
                return  # somebody leads, who will come by here
            # It leads from now on, even if we are interrupted: it wakes at its deadline at the latest, and finds that.
            self._chosen[own] = successor
            if self._leave_queue(successor) and successor.answers is None:
                successor.wake()
                self._chosen.pop(own, None)
                return
            self._chosen.pop(own, None)
            if self._asking.get(successor.thread) is successor:  # it leads already, or will find that it does
                return
            self._leader.pop("thread", None)  # it has just gone

    def _wait(self, waiter: _Waiter, left_s: float | None) -> None:
        """Sleep until the waiter is answered, or it is its turn to lead."""
        turns = self._turns
        try:
            is_woken = waiter.woken.acquire(timeout=self._timeout if left_s is None else left_s)
        except BaseException:  # a signal's
            self._leave(waiter)
            raise
        if is_woken:
            return
        if self._leave_queue(waiter):
            if turns == self._turns and left_s is None:
                # Whoever leads has done nothing for as long as a round trip may take. A signal may have struck just
                # when the lead was to be handed over: from now on, it is free. At worst, two lead at a time.
                self._turns += 1
                self._leader.pop("thread", None)
                self._stalled()
                self._pass_on()
        elif waiter.answers is not None or self._leader.get("thread") == threading.get_ident():
            return
        raise self._overdue()

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Was it in the queue? It is no more."""
        try:
            self._waiting.remove(waiter)
        except ValueError:
            return False
        return True

    def _leave(self, waiter: _Waiter) -> None:
        """The caller was interrupted, and nobody gets to see the answer."""
        if not self._leave_queue(waiter) and not waiter.ends("gone"):
            self._give_back(returns_of(waiter.answers or ()))

    def _lead(self, own: Sequence[Group], left_s: float | None) -> list[Answer]:
        """Make a round trip for us and for all who are waiting, within what is left to us, and hand over to whoever
        came meanwhile.
        """
        waiters: list[_Waiter] = []
        returns: list[Group] = []
        try:
            if not self._waiting:
                return _answers_of(self._round_trip, own, left_s)
            groups = list(own)
            while (waiter := _first(self._waiting)) is not None and len(groups) + len(waiter.groups) <= MAX_GROUPS:
                waiters.append(waiter)  # first, so that whatever interrupts us, it is answered
                if self._leave_queue(waiter):
                    groups += waiter.groups
                else:  # it has just gone
                    waiters.pop()
            answers = _answers_of(self._round_trip, groups, left_s)
            at = len(own)
            for waiter in waiters:
                waiter.answers = answers[at : at + len(waiter.groups)]
                at += len(waiter.groups)
                if not waiter.ends("answered"):
                    returns += returns_of(waiter.answers)
        finally:
            for waiter in waiters:
                if waiter.answers is None:  # we were interrupted, and nobody knows their answers
                    self._leave_queue(waiter)
                    waiter.answers = [self._overdue()] * len(waiter.groups)
                waiter.wake()
            self.hand_over()
        if returns:
            self._give_back(returns)
        return answers[: len(own)]


def _first(waiting: deque[_Waiter]) -> _Waiter | None:
    try:
        return waiting[0]
    except IndexError:
        return None


def _answers_of(round_trip: RoundTrip, groups: Sequence[Group], left_s: float | None) -> list[Answer]:
    try:
        return round_trip(groups, left_s)
    except StoreOutage as outage:
        return [outage] * len(groups)

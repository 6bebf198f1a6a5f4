"""Coalescing: calls that arrive while a trip to the store is under way travel together in the next one.

Nobody waits for company: a lone call leaves at once, and there is no timer. Riders are asked for in the order in
which they came. Threads take turns: whoever finds no trip under way leads one, and hands over to the first who came
meanwhile. In an event loop, whoever calls first has a trip set out in the loop's next round.

The decisions are those that the calls would have had alone, in the same order. This module must not know what a store
is: it is given what makes a trip.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from headgate.decision import Answer, Decision, FareDecision
from headgate.errors import StoreOutage
from headgate.forks import begin_afresh_in_child
from headgate.hits import Fare, Group
from headgate.loops import PerLoop
from headgate.policy import give_back_groups

MAX_GROUPS: Final = 256
"""How many groups travel together. A server is not to be held up by one script for more than a few milliseconds."""
HALF: Final = 32
"""Twice as many tasks as these travel in two trips, one behind the other."""
NEVER: Final = float("inf")
"""So many never wait."""

Trip = Callable[[Sequence[Group]], list[Answer]]
Arrive = Callable[[list[Answer] | Exception], None]
"""Gets the answers of a trip, or why there are none."""
Start = Callable[[Sequence[Group], Arrive], Callable[[], None]]
"""Begins a trip in this event loop. What it returns gives the trip up: nobody waits for it any more."""
StartAlike = Callable[[Fare, Sequence[str], Arrive], Callable[[], None]]
"""The same for the keys of lone hits that have one fare."""
GiveBack = Callable[[list[Group]], object]
"""Gives back what was admitted for a caller that is gone. In an event loop, it returns at once."""
Overdue = Callable[[], StoreOutage]
"""Makes the error of a rider whose deadline passes while it waits."""


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
                self._give_back(_returns(answers))
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
                        returns += _returns(rider.answers)
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


def decisions(answers: list[Answer]) -> list[Decision]:
    """The decisions of one caller, who takes an outage for any of its groups as one for all.

    :raises StoreOutage: if there is one.
    """
    for answer in answers:
        if isinstance(answer, StoreOutage):
            raise answer
    return cast("list[Decision]", answers)


def _returns(answers: Sequence[Answer]) -> list[Group]:
    """What gives back all that was admitted for a caller that is gone."""
    return [group for answer in answers if isinstance(answer, Decision) for group in give_back_groups(answer)]


class AsyncCoalescer:
    """Coalesces the calls of tasks, for each event loop by itself.

    :param start: begins a trip, and returns at once.
    :param start_alike: likewise for lone hits of one fare; without it, they travel as groups.
    :param is_together: may calls travel together? If not, each begins a trip of its own at once.
    :param give_back: see `GiveBack`; without it, what is given back travels as all else does.
    """

    def __init__(
        self,
        start: Start,
        overdue: Overdue,
        timeout: float,
        *,
        start_alike: StartAlike | None = None,
        is_together: bool = True,
        give_back: GiveBack | None = None,
    ) -> None:
        self._lanes = PerLoop(lambda loop: _Lane(loop, start, start_alike, overdue, timeout, is_together, give_back))

    async def decide(self, groups: Sequence[Group]) -> list[Decision]:
        """Answer some groups, in the next trip of this event loop.

        :raises StoreOutage: if there is one for any of them: they are one caller's.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        future: asyncio.Future[list[Answer]] = asyncio.Future(loop=loop)
        lane.board(None, groups, future)
        try:
            answers = await future
        except asyncio.CancelledError:
            if _is_answered(future):
                lane.give_back(future.result())  # the answer was there, and we were cancelled all the same
            raise
        return decisions(answers)

    def ride(self, fare: Fare, key: str) -> asyncio.Future[Decision]:
        """Have a lone hit answered in the next trip of this event loop. No coroutine: the caller awaits the answer
        itself (or gets a `StoreOutage` from it), and has to `leave` if it is cancelled meanwhile.
        """
        future: asyncio.Future[Decision] = asyncio.Future()  # which finds the running loop quicker than we could
        self._lanes.get(future.get_loop()).board(fare, key, future)
        return future

    def leave(self, future: asyncio.Future[Decision]) -> None:
        """Give up what `ride` promised. If the answer was there already, what was admitted is given back."""
        if _is_answered(future):
            self._lanes.get(future.get_loop()).give_back([future.result()])

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing more will be asked in this event loop."""
        self._lanes.pop(loop)


def _is_answered(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


_Rider = tuple[Fare | None, Any, "asyncio.Future[Any]", float]
"""`(fare, asked, future, deadline)`: the fare and the key of a lone hit, or None and the groups of a caller; what it
waits for, and until when, by the event loop's clock."""


class _Trip:
    """Some riders on their way."""

    __slots__ = ("deadline", "give_up", "riders")

    def __init__(self, riders: list[_Rider], deadline: float) -> None:
        self.riders = riders
        self.deadline = deadline
        self.give_up: Callable[[], None] | None = None
        """None while there is nothing to give up yet."""


class _Lane:
    """The queue of one event loop, and its trips."""

    __slots__ = (
        "_give_back",
        "_is_departing",
        "_is_together",
        "_loop",
        "_overdue",
        "_quorum",
        "_start",
        "_start_alike",
        "_time",
        "_timeout",
        "_trips",
        "_waiting",
        "_watch",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        start: Start,
        start_alike: StartAlike | None,
        overdue: Overdue,
        timeout: float,
        is_together: bool,
        give_back: GiveBack | None,
    ) -> None:
        self._loop = loop
        self._give_back = give_back
        self._time = loop.time
        self._start = start
        self._start_alike = start_alike
        self._overdue = overdue
        self._timeout = timeout
        self._is_together = is_together
        self._waiting: deque[_Rider] = deque()
        self._trips: set[_Trip] = set()
        self._quorum: float = 1
        """How many have to be waiting for the next trip to begin."""
        self._is_departing = False
        """Will a trip begin in the loop's next round, with all who come in this one?"""
        self._watch: asyncio.TimerHandle | None = None
        """Looks for those whose deadline has passed. Deadlines pass in their order, so one timer does for all."""

    def board(self, fare: Fare | None, asked: Any, future: asyncio.Future[Any]) -> None:
        """Queue up, with the key of a lone hit and its fare, or with groups."""
        deadline = self._time() + self._timeout
        rider = (fare, asked, future, deadline)
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._expire)
        if not self._is_together:
            self._begin([rider])
            return
        self._waiting.append(rider)
        if len(self._waiting) >= self._quorum and not self._is_departing:
            self._is_departing = True
            self._loop.call_soon(self._depart)

    def _count(self) -> None:
        """Set the quorum. If no trip is under way, one may leave. If there is just one, it takes as many as travel in
        it, and not a few: then the server can work for the ones while we hand out the answers of the others.
        """
        if not self._trips:
            self._quorum = 1
        elif len(self._trips) == 1:
            (trip,) = self._trips
            self._quorum = max(HALF, min(len(trip.riders), MAX_GROUPS // 2))
        else:
            self._quorum = NEVER

    def _depart(self) -> None:
        self._is_departing = False
        while (waiting := len(self._waiting)) >= self._quorum:
            most = MAX_GROUPS if waiting < 2 * HALF or self._trips else min(MAX_GROUPS, (waiting + 1) // 2)
            self._begin(self._next(most))

    def _next(self, most: int) -> list[_Rider]:
        """Take those who travel next out of the queue, but for those who were cancelled or are overdue."""
        waiting = self._waiting
        take = waiting.popleft
        riders = [take() for _ in range(min(most, len(waiting)))]
        if None in {rider[0] for rider in riders}:  # some have groups, and some of those more than one
            size = fitting = 0
            for fare, asked, _, _ in riders:
                size += 1 if fare is not None else len(asked)
                if size > most and fitting > 0:
                    break
                fitting += 1
            waiting.extendleft(reversed(riders[fitting:]))
            del riders[fitting:]
        return [rider for rider in riders if not rider[2].done()]

    def _begin(self, riders: list[_Rider]) -> None:
        if not riders:
            return
        trip = _Trip(riders, self._time() + self._timeout)
        self._trips.add(trip)
        self._count()
        arrive = functools.partial(self._arrive, trip)
        fare = riders[0][0]
        try:
            if fare is not None and self._start_alike is not None and len({rider[0] for rider in riders}) == 1:
                trip.give_up = self._start_alike(fare, [rider[1] for rider in riders], arrive)
            else:
                trip.give_up = self._start(_groups_of(riders), arrive)
        except Exception as error:  # a fault of ours: each rider gets to see it
            self._arrive(trip, error)

    def _arrive(self, trip: _Trip, answers: list[Answer] | Exception) -> None:
        """Hand out the answers of a trip."""
        if trip not in self._trips:  # given up
            return
        self._trips.remove(trip)
        self._count()
        riders, trip.riders, trip.give_up = trip.riders, [], None  # no cycle is left for the garbage collector
        if isinstance(answers, Exception):
            self._fail(riders, answers)
        else:
            self._hand_out(riders, answers)
        if self._waiting:
            self._depart()

    def _hand_out(self, riders: list[_Rider], answers: list[Answer]) -> None:
        at = 0
        for fare, asked, future, _ in riders:
            answer: Any
            if fare is not None:
                answer = answers[at]
                at += 1
            else:
                answer = answers[at : at + len(asked)]
                at += len(asked)
            try:
                if answer.__class__ is FareDecision or not isinstance(answer, StoreOutage):
                    future.set_result(answer)
                else:
                    _refuse(future, answer)
            except asyncio.InvalidStateError:  # it is gone, or was told that its deadline has passed
                if future.cancelled():
                    self.give_back(answer if fare is None else [answer])

    def _fail(self, riders: list[_Rider], error: Exception) -> None:
        """There is no answer. An outage is one for each group; a fault of ours is one that each rider gets to see."""
        for fare, asked, future, _ in riders:
            if not future.done():
                if fare is None and isinstance(error, StoreOutage):
                    future.set_result([error] * len(asked))
                else:
                    _refuse(future, error)

    def give_back(self, answers: Sequence[Answer]) -> None:
        """Give back what was admitted for a caller that is gone."""
        groups = _returns(answers)
        if self._give_back is not None:
            self._give_back(groups)
            return
        for group in groups:
            self.board(None, [group], self._loop.create_future())  # which nobody awaits

    def _expire(self) -> None:
        """Tell those whose deadline has passed, and give up the trips that should have ended."""
        self._watch = None
        now = self._time()
        for trip in [trip for trip in self._trips if trip.deadline <= now]:
            if trip.give_up is not None:
                trip.give_up()
            self._arrive(trip, self._overdue())
        riders = [*self._waiting, *(rider for trip in self._trips for rider in trip.riders)]
        for rider in riders:
            if rider[3] <= now:
                self._fail([rider], self._overdue())
        later = [rider[3] for rider in riders if rider[3] > now] + [trip.deadline for trip in self._trips]
        if later and self._watch is None:
            self._watch = self._loop.call_at(min(later), self._expire)


def _groups_of(riders: list[_Rider]) -> list[Group]:
    groups: list[Group] = []
    for fare, asked, _, _ in riders:
        if fare is None:
            groups += asked
        else:
            groups.append(fare.group(asked))
    return groups


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    """Raise an error where somebody awaits a future. If its task is cancelled at the same time, nobody misses it."""
    future.set_exception(error)
    future.exception()

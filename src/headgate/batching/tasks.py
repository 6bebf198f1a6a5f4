"""How the tasks of an event loop travel together: whoever calls first has a trip set out in the loop's next round."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from headgate.batching.batch import MAX_GROUPS, Arrive, GiveBack, Overdue, decisions
from headgate.decision import Answer, Decision, SingleHitDecision
from headgate.errors import StoreOutage
from headgate.hits import Group, SingleHit
from headgate.plans.groups import returns_of
from headgate.runtime.loops import PerLoop, no_loop

HALF: Final = 32
"""Twice as many tasks as these travel in two trips, one behind the other."""
NEVER: Final = float("inf")
"""So many never wait."""

Start = Callable[[Sequence[Group], Arrive], Callable[[], None]]
"""Begins a trip in this event loop. What it returns gives the trip up: nobody waits for it any more."""
StartAlike = Callable[[SingleHit, Sequence[str], Arrive], Callable[[], None]]
"""The same for the keys of single hits that have one fare."""


class AsyncCoalescer:
    """Coalesces the calls of tasks, for each event loop by itself.

    :param start: begins a trip, and returns at once.
    :param start_alike: likewise for single hits of one fare; without it, they travel as groups.
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
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise no_loop() from None
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

    def ride(self, fare: SingleHit, key: str) -> asyncio.Future[Decision]:
        """Have a single hit answered in the next trip of this event loop. No coroutine: the caller awaits the answer
        itself (or gets a `StoreOutage` from it), and has to `leave` if it is cancelled meanwhile.
        """
        future: asyncio.Future[Decision]
        try:
            future = asyncio.Future()  # which finds the running loop quicker than we could
        except RuntimeError:
            raise no_loop() from None
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


_Rider = tuple[SingleHit | None, Any, "asyncio.Future[Any]", float]
"""`(fare, asked, future, deadline)`: the fare and the key of a single hit, or None and the groups of a caller; what it
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

    def board(self, fare: SingleHit | None, asked: Any, future: asyncio.Future[Any]) -> None:
        """Queue up, with the key of a single hit and its fare, or with groups."""
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
                if answer.__class__ is SingleHitDecision or not isinstance(answer, StoreOutage):
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
        groups = returns_of(answers)
        if self._give_back is None:
            for group in groups:
                self.board(None, [group], self._loop.create_future())  # which nobody awaits
        elif groups:
            self._give_back(groups)

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

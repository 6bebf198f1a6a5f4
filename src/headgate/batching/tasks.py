"""Batches of the tasks of an event loop: whoever calls first has a batch sent in the loop's next round."""

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
"""Twice as many tasks as these go in two batches, one behind the other."""
NEVER: Final = float("inf")
"""So many never wait."""

Start = Callable[[Sequence[Group], Arrive], Callable[[], None]]
"""Begins a round trip in this event loop. What it returns gives that up: nobody waits for it any more."""
StartAlike = Callable[[SingleHit, Sequence[str], Arrive], Callable[[], None]]
"""The same for the keys of single hits that are alike but for their keys."""


class AsyncCoalescer:
    """Coalesces the calls of tasks, for each event loop by itself.

    :param start: begins a round trip, and returns at once. What it raises is the answer.
    :param start_alike: likewise for single hits that are alike; without it, they go as groups.
    :param is_together: may calls go together? If not, each begins a round trip of its own at once.
    :param give_back: see `GiveBack`; without it, what is given back is asked for as all else is.
    :param is_refusing: would `start` refuse whatever comes? Then nobody waits for anything before.
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
        is_refusing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queues = PerLoop(
            lambda loop: _Queue(loop, start, start_alike, overdue, timeout, is_together, give_back, is_refusing)
        )

    async def decide(self, groups: Sequence[Group], start: Start | None = None) -> list[Decision]:
        """Answer some groups, in the next batch of this event loop; with `start`, at once and by themselves.

        :raises StoreOutage: if there is one for any of them: they are one caller's.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise no_loop() from None
        queue = self._queues.get(loop)
        future: asyncio.Future[list[Answer]] = asyncio.Future(loop=loop)
        queue.add(None, groups, future, start)
        try:
            answers = await future
        except asyncio.CancelledError:
            if _is_answered(future):
                queue.give_back(future.result())  # the answer was there, and we were cancelled all the same
            raise
        return decisions(answers)

    def submit(self, single: SingleHit, key: str) -> asyncio.Future[Decision]:
        """Have a single hit answered in the next batch of this event loop. No coroutine: the caller awaits the answer
        itself (or gets a `StoreOutage` from it), and has to `give_up` if it is cancelled meanwhile.
        """
        future: asyncio.Future[Decision]
        try:
            future = asyncio.Future()  # which finds the running loop quicker than we could
        except RuntimeError:
            raise no_loop() from None
        self._queues.get(future.get_loop()).add(single, key, future)
        return future

    def give_up(self, future: asyncio.Future[Decision]) -> None:
        """Give up what `submit` promised. If the answer was there already, what was admitted is given back."""
        if _is_answered(future):
            self._queues.get(future.get_loop()).give_back([future.result()])

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing more will be asked in this event loop."""
        self._queues.pop(loop)


def _is_answered(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


_Waiter = tuple[SingleHit | None, Any, "asyncio.Future[Any]", float]
"""`(single, asked, future, deadline)`: a single hit and its key, or None and the groups of a caller; what it waits for,
and until when, by the event loop's clock."""


class _Batch:
    """Some waiters, whose hits and groups are on their way."""

    __slots__ = ("deadline", "give_up", "waiters")

    def __init__(self, waiters: list[_Waiter], deadline: float) -> None:
        self.waiters = waiters
        self.deadline = deadline
        self.give_up: Callable[[], None] | None = None
        """None while there is nothing to give up yet."""


class _Queue:
    """The queue of one event loop, and its batches."""

    __slots__ = (
        "_batches",
        "_give_back",
        "_is_refusing",
        "_is_scheduled",
        "_is_together",
        "_loop",
        "_overdue",
        "_quorum",
        "_start",
        "_start_alike",
        "_time",
        "_timeout",
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
        is_refusing: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._give_back = give_back
        self._is_refusing = is_refusing
        self._time = loop.time
        self._start = start
        self._start_alike = start_alike
        self._overdue = overdue
        self._timeout = timeout
        self._is_together = is_together
        self._waiting: deque[_Waiter] = deque()
        self._batches: set[_Batch] = set()
        """Those that are on their way."""
        self._quorum: float = 1
        """How many have to be waiting for the next batch to begin."""
        self._is_scheduled = False
        """Will a batch begin in the loop's next round, with all who come in this one?"""
        self._watch: asyncio.TimerHandle | None = None
        """Looks for those whose deadline has passed. Deadlines pass in their order, so one timer does for all."""

    def add(
        self, single: SingleHit | None, asked: Any, future: asyncio.Future[Any], start: Start | None = None
    ) -> None:
        """Queue up, with a single hit and its key, or with groups; with `start`, begin at once."""
        deadline = self._time() + self._timeout
        waiter = (single, asked, future, deadline)
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._expire)
        if start is not None or not self._is_together:
            self._begin([waiter], start or self._start)
            return
        self._waiting.append(waiter)
        if len(self._waiting) >= self._quorum and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send)

    def _count(self) -> None:
        """Set the quorum. If no batch is under way, one may leave. If there is just one, it takes as many as go in
        it, and not a few: then the server can work for the ones while we hand out the answers of the others.
        """
        if not self._batches:
            self._quorum = 1
        elif len(self._batches) == 1:
            (batch,) = self._batches
            self._quorum = max(HALF, min(len(batch.waiters), MAX_GROUPS // 2))
        else:
            self._quorum = NEVER

    def _send(self) -> None:
        self._is_scheduled = False
        while (waiting := len(self._waiting)) and (waiting >= self._quorum or self._is_refusing()):
            most = MAX_GROUPS if waiting < 2 * HALF or self._batches else min(MAX_GROUPS, (waiting + 1) // 2)
            self._begin(self._next(most), self._start)

    def _next(self, most: int) -> list[_Waiter]:
        """Take those who go next out of the queue, but for those who were cancelled or are overdue."""
        waiting = self._waiting
        take = waiting.popleft
        waiters = [take() for _ in range(min(most, len(waiting)))]
        if None in {waiter[0] for waiter in waiters}:  # some have groups, and some of those more than one
            size = fitting = 0
            for single, asked, _, _ in waiters:
                size += 1 if single is not None else len(asked)
                if size > most and fitting > 0:
                    break
                fitting += 1
            waiting.extendleft(reversed(waiters[fitting:]))
            del waiters[fitting:]
        return [waiter for waiter in waiters if not waiter[2].done()]

    def _begin(self, waiters: list[_Waiter], start: Start) -> None:
        if not waiters:
            return
        batch = _Batch(waiters, self._time() + self._timeout)
        self._batches.add(batch)
        self._count()
        arrive = functools.partial(self._arrive, batch)
        single = waiters[0][0]
        try:
            if single is not None and self._start_alike is not None and len({waiter[0] for waiter in waiters}) == 1:
                batch.give_up = self._start_alike(single, [waiter[1] for waiter in waiters], arrive)
            else:
                batch.give_up = start(_groups_of(waiters), arrive)
        except Exception as error:  # a refusal, or a fault of ours, which each waiter gets to see
            if batch in self._batches:
                self._end(batch, error)

    def _arrive(self, batch: _Batch, answers: list[Answer] | Exception) -> None:
        """Hand out the answers to a batch, and send the next."""
        if batch in self._batches:  # else it was given up
            self._end(batch, answers)
            if self._waiting:
                self._send()

    def _end(self, batch: _Batch, answers: list[Answer] | Exception) -> None:
        self._batches.remove(batch)
        self._count()
        waiters, batch.waiters, batch.give_up = batch.waiters, [], None  # no cycle is left for the garbage collector
        if isinstance(answers, Exception):
            self._fail(waiters, answers)
        else:
            self._hand_out(waiters, answers)

    def _hand_out(self, waiters: list[_Waiter], answers: list[Answer]) -> None:
        at = 0
        for single, asked, future, _ in waiters:
            answer: Any
            if single is not None:
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
                    self.give_back(answer if single is None else [answer])

    def _fail(self, waiters: list[_Waiter], error: Exception) -> None:
        """There is no answer. An outage is one for each group; a fault of ours is one that each waiter gets to see."""
        for single, asked, future, _ in waiters:
            if not future.done():
                if single is None and isinstance(error, StoreOutage):
                    future.set_result([error] * len(asked))
                else:
                    _refuse(future, error)

    def give_back(self, answers: Sequence[Answer]) -> None:
        """Give back what was admitted for a caller that is gone."""
        groups = returns_of(answers)
        if self._give_back is None:
            for group in groups:
                self.add(None, [group], self._loop.create_future())  # which nobody awaits
        elif groups:
            self._give_back(groups)

    def _expire(self) -> None:
        """Tell those whose deadline has passed, and give up the batches that should have been answered."""
        self._watch = None
        now = self._time()
        for batch in [batch for batch in self._batches if batch.deadline <= now]:
            if batch.give_up is not None:
                batch.give_up()
            self._arrive(batch, self._overdue())
        waiters = [*self._waiting, *(waiter for batch in self._batches for waiter in batch.waiters)]
        for waiter in waiters:
            if waiter[3] <= now:
                self._fail([waiter], self._overdue())
        later = [waiter[3] for waiter in waiters if waiter[3] > now] + [batch.deadline for batch in self._batches]
        if later and self._watch is None:
            self._watch = self._loop.call_at(min(later), self._expire)


def _groups_of(waiters: list[_Waiter]) -> list[Group]:
    groups: list[Group] = []
    for single, asked, _, _ in waiters:
        if single is None:
            groups += asked
        else:
            groups.append(single.group(asked))
    return groups


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    """Raise an error where somebody awaits a future. If its task is cancelled at the same time, nobody misses it."""
    future.set_exception(error)
    future.exception()

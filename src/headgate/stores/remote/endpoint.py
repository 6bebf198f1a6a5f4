"""One server, as threads and event loops ask it. This module must not know how it is reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, Final, Protocol

from headgate.batching import Arrive, AsyncCoalescer, ThreadCoalescer
from headgate.breaker import Circuit, State
from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, SingleHit
from headgate.observer import BreakerState, attached, tell
from headgate.plans.lost import tell_lost
from headgate.runtime.loops import PerLoop, running_loop, start
from headgate.stores.remote.connections import overdue
from headgate.stores.remote.returning import GIVE_BACK_S, Returns
from headgate.stores.remote.terms import Terms

logger = logging.getLogger("headgate")


class LoopConnection(Protocol):
    """The connection of an endpoint in one event loop."""

    def close(self) -> None:
        """Hang up."""

    def retire(self) -> None:
        """Hang up as soon as nobody is asking, now and from now on."""

    def retire_soon(self) -> None:
        """As `retire`, from any thread."""


class Judging(Protocol):
    """Judges batches: an endpoint, or several that are one store."""

    def decide(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """As `Endpoint.decide`."""

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """As `Endpoint.decide_async`."""


class Endpoint:
    """One server: what is asked of it goes in batches, within the deadline, and not while its breaker is open. Making
    it does not connect. Safe to share between threads, event loops and forked processes.

    A subclass has `answer`, and `answer_async` or `begin`. What they raise as a `StoreOutage` is a failure of the
    server; what is one group's fault alone is an outage among the answers, `is_of_server` False.

    :param name: names the server, without its password.
    :param whole: the servers that it is one of: what was admitted for a caller that is gone is given back there, since
        by then, another of them may have to be asked.
    """

    def __init__(self, name: str, terms: Terms, whole: Judging | None = None) -> None:
        self.name: Final = name
        timeout_s = terms.timeout_s
        self.timeout_s: Final = timeout_s
        self.learnt: Final = terms.learnt
        self._breaker = terms.breaker
        self._coalesces = terms.coalesces
        self._is_retired = False
        # Connecting has a deadline of its own, and a script may have to be sent again.
        self.circuit: Final = Circuit(terms.breaker, probe_us=int(timeout_s * 4_000_000), changed=self._circuit_changed)
        self._connections = PerLoop(self._open_in_loop)
        # By a thread of its own: whoever finds that somebody is gone has a deadline.
        self._returns = Returns(self.decide if whole is None else whole.decide)
        self._threads = ThreadCoalescer(
            self._round_trip,
            self.overdue,
            timeout_s,
            give_back=self._give_back_late,
            stalled=self.circuit.failed,
        )
        self._tasks = AsyncCoalescer(
            self._start,
            self.overdue,
            timeout_s,
            start_alike=self._start_alike,
            is_together=terms.coalesces,
            give_back=None if whole is None else partial(_give_back_soon, whole),
            is_refusing=lambda: not self.circuit.state.is_closed,
        )
        self.submit, self.give_up = self._tasks.submit, self._tasks.give_up
        """As `AsyncCoalescer` has them; for as long as the breaker is closed."""

    # What a subclass says

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """Answer a batch, blocking, within the deadline, or within what is left of it.

        :raises StoreOutage: if the server does not answer.
        """
        raise NotImplementedError

    async def answer_async(self, groups: Sequence[Group]) -> list[Answer]:
        """Answer a batch. It is cancelled at its deadline.

        :raises StoreOutage: if the server does not answer.
        """
        raise NotImplementedError

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        """Begin to answer a batch in this event loop; `arrive` gets the answers, or what `answer_async` would raise.
        What is returned gives it up at its deadline; nothing may arrive after that.
        """
        return begin_task(self.answer_async(groups), arrive)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        """As `begin`, for single hits that are alike but for their keys."""
        return self.begin([single.group(key) for key in keys], arrive)

    def ask(self, request: Any) -> Any:
        """Ask for a single hit that `RemoteStore.fast_path` has packed, blocking. None: nothing was done, and it has to
        be asked for the general way.

        :raises StoreOutage: if the server does not answer.
        """
        raise NotImplementedError

    def replies_to(self, request: bytes, count: int, left_s: float) -> list[Any] | StoreOutage:
        """Ask a server that knows of others about them, blocking, within the deadline and so many seconds: the `count`
        replies, or the outage that the first of them means. Of the others, an error is an outage among the replies.
        """
        raise NotImplementedError

    async def replies_to_async(self, request: bytes, count: int) -> list[Any] | StoreOutage:
        """As `replies_to`, within the deadline."""
        raise NotImplementedError

    def open_in_loop(self) -> LoopConnection:
        """Make the connection of this event loop; `connection` has it from then on. Does not connect."""
        raise NotImplementedError

    def close_idle(self) -> None:
        """Close what was opened for threads, where nobody is asking."""

    # What comes of that

    def connection(self) -> Any:
        """The connection of this event loop."""
        return self._connections.get(asyncio.get_running_loop())

    def _open_in_loop(self, _: asyncio.AbstractEventLoop) -> LoopConnection:
        connection = self.open_in_loop()
        if self._is_retired:
            connection.retire()
        return connection

    def decide(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """Judge a batch, blocking, within the deadline or what is left of it.

        :raises StoreOutage: if there is no answer.
        """
        if not self.circuit.state.is_closed:
            probe = self.admit()
            if not probe.is_closed:
                return self._round_trip(groups, left_s, probe)  # by itself, so that nobody waits behind it
        return self._threads.decide(groups, left_s) if self._coalesces else self._round_trip(groups, left_s)

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """Judge a batch.

        :raises StoreOutage: if there is one for any of them.
        """
        # No coroutine itself: one that awaits another takes a twentieth of the time of a call among many.
        if not self.circuit.state.is_closed:
            return self._decide_alone(groups)
        return self._tasks.decide(groups)

    async def _decide_alone(self, groups: Sequence[Group]) -> list[Decision]:
        return await self._tasks.decide(groups, partial(self._begin, self.begin, groups, self.admit()))

    async def inquire_async(self, begin: Callable[[Any, Arrive], Callable[[], None]]) -> Any:
        """Ask something else than groups, in a round trip of its own: `begin` has nothing to ask for but what it knows
        itself, and one answer arrives.

        :raises StoreOutage: if that is one, or there is none.
        """
        (reply,) = await self._tasks.decide((None,), partial(self._begin, begin, None, self.admit()))  # type: ignore[arg-type]  # no group
        return reply

    def call(self, key: str, request: Any) -> Any:
        """As `ask`, of this server; None, too, where others are asking."""
        if not self.circuit.state.is_closed:
            return None
        if not self._coalesces:
            return self.attempt(self.ask, request, 1)
        try:
            if not self._threads.try_lead():
                return None
            reply = self.attempt(self.ask, request, 1)
            self._threads.hand_over()
        except BaseException:
            self._threads.hand_over()
            raise
        return reply

    def attempt(self, ask: Callable[[Any], Any], asked: Any, groups: int, probe: State | None = None) -> Any:
        """Have `ask` make a round trip of so many `groups`, and tell the breaker and the observers how that went.

        :raises StoreOutage: if it does.
        """
        circuit = self.circuit
        began_ns = perf_counter_ns() if attached else 0
        try:
            answer = ask(asked)
        except StoreOutage as raised:
            self._ended(groups, began_ns, raised, probe)
            raise
        except BaseException:  # a signal's, or a fault of ours
            circuit.abandoned(probe)
            raise
        # Whatever happens to a round trip happens to the last group, too.
        last = answer[-1] if type(answer) is list and answer else None
        outage = last if isinstance(last, StoreOutage) else None
        if outage is not None or began_ns or not circuit.state.is_clean:
            self._ended(groups, began_ns, outage, probe)
        return answer

    def admit(self) -> State:
        """Say that the server is to be asked.

        :raises StoreUnavailable: if it must not be.
        """
        admitted = self.circuit.admit()
        if admitted is None:
            raise self._refusal()
        return admitted

    def _refusal(self) -> StoreOutage:
        problem = f"its breaker is open, and it is not asked for another {self.circuit.opens_in_us() / 1e6:.3f} s"
        return StoreUnavailable(self.name, problem)

    def _round_trip(
        self, groups: Sequence[Group], left_s: float | None = None, probe: State | None = None
    ) -> list[Answer]:
        if probe is None and not self.circuit.state.is_closed:
            raise self._refusal()
        mark = self.learnt.mark()
        try:
            answer = self.answer if left_s is None else partial(self.answer, left_s=left_s)
            answers: list[Answer] = self.attempt(answer, groups, len(groups), probe)
        except BaseException:
            self.learnt.forget(groups)
            raise
        self.learnt.learn(groups, answers, mark)
        return answers

    def _give_back_late(self, groups: Sequence[Group]) -> None:
        if groups:
            tell_lost(self._returns.add(groups, GIVE_BACK_S) or ())

    def _start(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        return self._begin(self.begin, groups, None, groups, arrive)

    def _start_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        return self._begin(partial(self.begin_alike, single), (), None, keys, arrive)

    def _begin(
        self,
        begin: Callable[[Any, Arrive], Callable[[], None]],
        groups: Sequence[Group] | None,
        probe: State | None,
        asked: Sequence[Any],
        arrive: Arrive,
    ) -> Callable[[], None]:
        """Begin a round trip in this event loop. What is returned gives it up. `groups` may be left out where they only
        spend; None: there are none, and nothing can be learnt.
        """
        if probe is None and not self.circuit.state.is_closed:
            raise self._refusal()
        learnt = self.learnt
        mark = learnt.mark()
        began_ns = perf_counter_ns() if attached else 0

        def done(answers: list[Answer] | Exception) -> None:
            if isinstance(answers, Exception):
                give_up(answers)
            else:
                if groups is not None:
                    learnt.learn(groups, answers, mark)
                outage = answers[-1] if isinstance(answers[-1], StoreOutage) else None
                if outage is not None or began_ns or not self.circuit.state.is_clean:
                    self._ended(len(asked), began_ns, outage, probe)
            arrive(answers)

        def give_up(error: Exception) -> None:
            learnt.forget(groups or ())
            if isinstance(error, StoreOutage):
                self._ended(len(asked), began_ns, error, probe)
            else:  # a fault of ours
                self.circuit.abandoned(probe)

        def expire() -> None:
            give_up(self.overdue())
            stop()

        stop = begin(asked, done)
        return expire

    def _ended(self, groups: int, began_ns: int, outage: StoreOutage | None, probe: State | None) -> None:
        """Tell the breaker and the observers how a round trip ended. If one group is at fault, the server answered."""
        if outage is not None and outage.is_of_server:
            self.circuit.failed(probe)
        else:
            self.circuit.succeeded()
            outage = None
        if began_ns:
            duration_ns = perf_counter_ns() - began_ns
            tell(lambda observer: observer.round_trip(self.name, groups, duration_ns, outage))

    def _circuit_changed(self, before: BreakerState, after: BreakerState) -> None:
        told = {"event": "breaker_changed", "store": self.name, "state": after}
        if after == "closed":
            logger.warning("headgate: store %s answers again: its breaker is closed", self.name, extra=told)
        elif before == "closed":
            logger.warning("headgate: store %s: its breaker opens (%r)", self.name, self._breaker, extra=told)
        else:
            logger.debug("headgate: store %s: its breaker is %s", self.name, after, extra=told)
        tell(lambda observer: observer.breaker_changed(self.name, after))

    def overdue(self) -> StoreOutage:
        """The outage of a call that got no answer in time."""
        return overdue(self.name, self.timeout_s)

    def endpoints(self) -> Iterable[Endpoint]:
        """As `Servers`."""
        return (self,)

    def serving(self, key: str | None = None) -> list[Endpoint]:
        """As `Servers`."""
        return [self]

    def close(self) -> None:
        """Close what is open, as soon as nobody is asking there."""
        self.close_idle()
        self.close_loops()

    def close_loops(self) -> None:
        """Close what was opened for event loops, as soon as nobody is asking there."""
        for loop in self._connections.loops():
            connection = self._connections.pop(loop)
            self._tasks.forget(loop)
            if connection is not None:
                connection.retire_soon()

    async def close_loop(self, *, at_once: bool = False) -> None:
        """Close what was opened for this event loop, as soon as nobody is asking there, or `at_once`."""
        loop = running_loop()
        connection = self._connections.pop(loop)
        self._tasks.forget(loop)
        if connection is not None:
            (connection.close if at_once else connection.retire)()
            await asyncio.sleep(0)  # let the transport end

    def retire(self) -> None:
        """Close what is open as soon as nobody asks there, and what those open who still do."""
        self._is_retired = True
        self.close()


def _give_back_soon(whole: Judging, groups: Sequence[Group]) -> None:
    """Give something back, in this event loop; nobody waits for it."""

    async def give_back() -> None:
        try:
            await whole.decide_async(groups)
        except StoreOutage as outage:
            tell_lost([outage])

    start(give_back())


def begin_task(answering: Coroutine[Any, Any, list[Answer]], arrive: Arrive) -> Callable[[], None]:
    """Begin to answer in a task of this event loop. What is returned gives it up; nothing arrives after that."""
    task = asyncio.get_running_loop().create_task(answering)

    def done(task: asyncio.Task[list[Answer]]) -> None:
        if not task.cancelled():
            error = task.exception()
            arrive(task.result() if error is None else error if isinstance(error, Exception) else RuntimeError(error))

    def give_up() -> None:
        task.remove_done_callback(done)
        task.cancel()

    task.add_done_callback(done)
    return give_up

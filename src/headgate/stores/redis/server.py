"""One server, as threads and event loops ask it: its connections, and what travels together to it.

This module must not know where else there may be servers, nor what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import hiredis
from redis import exceptions

from headgate.batching import Arrive, AsyncCoalescer, GiveBack, ThreadCoalescer
from headgate.decision import Answer, Decision
from headgate.drive import Plan, drive, drive_by_callback
from headgate.errors import StoreOutage
from headgate.hits import Group, SingleHit
from headgate.plans.cluster import in_one
from headgate.plans.redis import Script, ScriptMissing, singly
from headgate.runtime.loops import PerLoop, running_loop
from headgate.stores.connections import ConnectionPool, LoopConnection, PendingRequest
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.ledger import Ledger


class Server:
    """See above. Making it does not connect. Safe to share between threads, event loops and forked processes."""

    _preface = b""
    """What is sent before each script, and answered by itself."""
    _give_back: GiveBack | None = None
    _give_back_soon: GiveBack | None = None
    """How to give back what was admitted for a caller that is gone, blocking and in an event loop, if not here."""

    def __init__(self, connector: Connector, ledger: Ledger, *, coalesces: bool) -> None:
        self.connector: Final = connector
        self._ledger = ledger
        self._coalesces = coalesces
        self._lines = ConnectionPool(connector)
        self._exchanges = PerLoop(self._new_exchange)
        self._is_retired = False
        self._threads = ThreadCoalescer(self._trip, connector.overdue, connector.timeout_s, give_back=self._give_back)
        self._tasks = AsyncCoalescer(
            self._start,
            connector.overdue,
            connector.timeout_s,
            start_alike=self._start_alike,
            is_together=coalesces,
            give_back=self._give_back_soon,
        )
        self.ride, self.leave = self._tasks.ride, self._tasks.leave
        """As `AsyncCoalescer` has them."""

    def _plan(self, groups: Sequence[Group]) -> Plan[list[Script], list[Answer]]:
        """For a batch that came together. What it asks for in one list goes in one write."""
        return in_one(groups, self._in_one)

    def _in_one(self, groups: Sequence[Group]) -> Plan[Script, list[Answer]]:
        return self._ledger.in_one(groups, self._refused)

    def _plan_alike(self, fare: SingleHit, keys: Sequence[str]) -> Plan[list[Script], list[Answer]] | None:
        """For single hits of one fare; None where they have no plan of their own."""
        plan = self._ledger.alike(fare, keys, self.connector.refused)
        return None if plan is None else singly(plan)

    def _refused(self, text: str) -> StoreOutage:
        """What the server's error means, if not that the script is missing."""
        return self.connector.refused(text)

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch, blocking."""
        return self._threads.decide(groups) if self._coalesces else self._trip(groups)

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """Judge a batch.

        :raises StoreOutage: if there is one for any of them.
        """
        # No coroutine itself: one that awaits another takes a twentieth of the time of a call among many.
        return self._tasks.decide(groups)

    def call(self, packed: bytes) -> Any:
        """What the server answers to a call, blocking; None where others are asking, or the server does not have the
        script: then nothing was done.

        :raises StoreOutage: if it answers with an error, or cannot be asked.
        """
        if self._coalesces:
            if self._threads.is_leading():  # a signal's handler asks in the middle of our trip
                return None
            try:
                if not self._threads.try_lead():
                    return None
                (reply,) = self._ask(packed, 1)
                self._threads.hand_over()
            except BaseException:
                self._threads.hand_over()
                raise
        else:
            (reply,) = self._ask(packed, 1)
        if type(reply) is list:
            return reply
        meaning = self._meaning(reply)
        if isinstance(meaning, StoreOutage):
            raise meaning
        return None if isinstance(meaning, ScriptMissing) else meaning

    def ask(self, packed: bytes) -> Any:
        """What the server answers to a question that is no script, blocking; an outage is an answer."""
        try:
            return self._meaning(self._ask(packed, 1)[0])
        except StoreOutage as outage:
            return outage

    async def ask_async(self, packed: bytes) -> Any:
        """As `ask`."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def replied(replies: list[Any] | StoreOutage) -> None:
            if not answer.done():
                answer.set_result(replies if isinstance(replies, StoreOutage) else self._meaning(replies[0]))

        question = self._exchange().ask(packed, 1, replied)
        try:
            async with asyncio.timeout(self.connector.timeout_s):
                return await answer
        except TimeoutError:
            return self.connector.overdue()
        finally:
            if not answer.done() or answer.cancelled():
                question.give_up()

    def _trip(self, groups: Sequence[Group]) -> list[Answer]:
        mark = self._ledger.mark()
        try:
            answers = drive(self._plan(groups), self._send)
        except BaseException:  # a signal's
            self._ledger.forget(groups)
            raise
        self._ledger.learn(groups, answers, mark)
        return answers

    def _send(self, scripts: list[Script]) -> list[Any]:
        return self._meanings(self._ask(self._packed(scripts), len(scripts)))

    def _ask(self, packed: bytes, count: int) -> list[Any]:
        try:
            return self._lines.ask(packed, 2 * count if self._preface else count)
        except (exceptions.RedisError, hiredis.HiredisError, OSError) as error:
            raise self.connector.outage(error) from error

    def _packed(self, scripts: list[Script]) -> bytes:
        preface = self._preface
        return b"".join([preface + script.packed for script in scripts] if preface else [one.packed for one in scripts])

    def _start(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        """Begin a trip in this event loop."""
        return self._begin(self._plan(groups), groups, arrive)

    def _start_alike(self, fare: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        """Begin a trip of single hits of one fare."""
        plan = self._plan_alike(fare, keys)
        if plan is None:
            return self._start([fare.group(key) for key in keys], arrive)
        return self._begin(plan, (), arrive)

    def _begin(
        self, plan: Plan[list[Script], list[Answer]], groups: Sequence[Group], arrive: Arrive
    ) -> Callable[[], None]:
        """Have a plan carried out in this event loop. What is returned gives it up. `groups` may be left out where they
        only spend.
        """
        exchange, mark = self._exchange(), self._ledger.mark()
        question: PendingRequest | None = None

        def send(scripts: list[Script], resume: Callable[[Any], None]) -> None:
            nonlocal question

            def replied(replies: list[Any] | StoreOutage) -> None:
                resume(replies if isinstance(replies, StoreOutage) else self._meanings(replies))

            count = 2 * len(scripts) if self._preface else len(scripts)
            question = exchange.ask(self._packed(scripts), count, replied)

        def done(answers: list[Answer] | Exception) -> None:
            if isinstance(answers, Exception):
                self._ledger.forget(groups)
            else:
                self._ledger.learn(groups, answers, mark)
            arrive(answers)

        def give_up() -> None:
            self._ledger.forget(groups)
            if question is not None:
                question.give_up()

        drive_by_callback(plan, send, done)
        return give_up

    def _exchange(self) -> LoopConnection:
        return self._exchanges.get(asyncio.get_running_loop())

    def _new_exchange(self, _: asyncio.AbstractEventLoop) -> LoopConnection:
        exchange = LoopConnection(self.connector)
        if self._is_retired:
            exchange.retire()
        return exchange

    def _meanings(self, replies: list[Any]) -> list[Any]:
        return [self._meaning(reply) for reply in (replies[1::2] if self._preface else replies)]

    def _meaning(self, reply: Any) -> Any:
        """What the plan can act on: a reply as it is, the news that a script is missing, or an outage."""
        if type(reply) is not hiredis.ReplyError:
            return reply
        text = str(reply)
        return ScriptMissing() if text.startswith("NOSCRIPT") else self._refused(text)

    def close(self) -> None:
        """Close what is open, as soon as nobody is asking there."""
        self._lines.close()
        self.close_loops()

    def close_loops(self) -> None:
        """Close what was opened for event loops, as soon as nobody is asking there."""
        for loop in self._exchanges.loops():
            exchange = self._exchanges.pop(loop)
            self._tasks.forget(loop)
            if exchange is not None:
                exchange.retire_soon()

    async def aclose(self) -> None:
        """Close what was opened for this event loop, and for threads where nobody is asking."""
        loop = running_loop()
        exchange = self._exchanges.pop(loop)
        self._tasks.forget(loop)
        if exchange is not None:
            exchange.close()
            await asyncio.sleep(0)  # let the transport end
        self._lines.close()

    async def close_loop(self) -> None:
        """Close what was opened for this event loop, as soon as nobody is asking there."""
        loop = asyncio.get_running_loop()
        exchange = self._exchanges.pop(loop)
        self._tasks.forget(loop)
        if exchange is not None:
            exchange.retire()
            await asyncio.sleep(0)  # let the transport end

    def retire(self) -> None:
        """Close what is open as soon as nobody asks there, and what those open who still do."""
        self._is_retired = True
        self._lines.close()
        for loop in self._exchanges.loops():
            exchange = self._exchanges.pop(loop)
            if exchange is not None:
                exchange.retire_soon()

"""The server: how it answers a batch, blocking and in an event loop. Who blocks has it done in the event loop of a
thread of ours.

This module must not know what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from headgate.batching import Arrive
from headgate.decision import Answer
from headgate.errors import InvalidUse, StoreUnavailable
from headgate.hits import Group
from headgate.plans.groups import returns_of
from headgate.plans.nats import Places
from headgate.runtime.loops import running_loop
from headgate.stores.holding import judge_group
from headgate.stores.nats.bucket import Bucket
from headgate.stores.nats.connector import ClientConnector, Connector
from headgate.stores.nats.server_clock import ServerClock
from headgate.stores.nats.session import Session
from headgate.stores.nats.threads import Begin, NotStarted, Overdue, awaited, thread
from headgate.stores.remote import Endpoint, Terms

OPERATOR_TIMEOUT_S: Final = 2.0
"""How long each step of what an operator asks for may take, at least."""

P = ParamSpec("P")
T = TypeVar("T")


class Server(Endpoint):
    """A server, or several that are one.

    :param prefix: the first part of every key.
    """

    def __init__(self, connector: Connector, bucket: Bucket, prefix: str, terms: Terms) -> None:
        self._connector = connector
        self._bucket = bucket
        self._places: Final = Places(bucket.name, prefix)
        self._clock = ServerClock()
        super().__init__(connector.name, terms)

    def open_in_loop(self) -> Session:
        return Session(
            self._connector,
            self._bucket,
            self._places,
            self.timeout_s,
            judge_group,
            self._clock,
            lambda: self.learnt.clock,
        )

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        return self._run(partial(self.begin, groups), self.timeout_s if left_s is None else left_s, self._give_back)

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        session: Session = self.connection()
        return session.begin(groups, arrive)

    def do(
        self, work: Callable[Concatenate[Session, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have something done for an operator, blocking.

        :raises StoreOutage: if the server does not answer.
        """

        async def run() -> T:
            return await work(self.connection(), *args, **kwargs)

        return self._run(awaited(run), max(self.timeout_s, OPERATOR_TIMEOUT_S), lambda _: None)

    def _run(self, begin: Begin[T], seconds: float, unseen: Callable[[T], object]) -> T:
        if isinstance(self._connector, ClientConnector):
            raise InvalidUse("this store was made from a nats.NATS client, of asyncio: it serves AsyncLimiter only")
        try:
            return thread.run(begin, seconds, unseen)
        except Overdue:
            raise self.overdue() from None
        except NotStarted:
            raise StoreUnavailable(self.name, "no thread can be started to ask it: the interpreter ends") from None

    def _give_back(self, answers: list[Answer]) -> None:
        """Give back what was admitted for a caller who was interrupted."""
        if returns := returns_of(answers):
            self.begin(returns, lambda _: None)

    async def close_loop(self, *, at_once: bool = False) -> None:
        session: Any = self._connections.pop(running_loop())
        await super().close_loop(at_once=at_once)
        if session is not None:
            (session.close if at_once else session.retire)()
            await session.closed()

    def close_idle(self) -> None:
        loop = thread.loop
        session = None if loop is None else self._connections.pop(loop)
        if session is not None:
            session.retire_soon()

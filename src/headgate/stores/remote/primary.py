"""One server at a time, of several that take each other's place: the primary, which others name (sentinels, say).

Each primary has a breaker of its own. Whoever fails is doubted, and those who know are asked again. This module must
not know who they are, nor how a server is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.plans.sentinel import Succession
from headgate.plans.topology import Address
from headgate.stores.remote.deadline import Deadline
from headgate.stores.remote.endpoint import Endpoint
from headgate.stores.remote.learning import Learning

CONFIRM_EVERY_S: Final = 0.25
"""Who the primary is, is asked again after this time, though it answers: one that was replaced on an order goes on for
many seconds as if nothing had happened, and what it counts then is lost.
"""

MakeServer = Callable[["Primary", Address], Endpoint]


class Primary:
    """The primary, whichever server that is. Making it does not connect. Safe to share between threads, event loops and
    forked processes.

    :param name: what outages call it where no server is at fault.
    :param succession: knows whom to ask for the primary.
    :param timeout_s: the deadline of a call, for learning who it is and asking it together.
    :param make_server: makes what asks a server, without connecting.
    :param advisers: those who know.
    """

    def __init__(
        self,
        name: str,
        succession: Succession,
        timeout_s: float,
        make_server: MakeServer,
        advisers: Mapping[Address, Endpoint],
    ) -> None:
        self.name: Final = name
        self._timeout_s = timeout_s
        self._succession = succession
        self._make_server = make_server
        self._advisers = advisers
        self._servers: dict[Address, Endpoint] = {}
        self._learning = Learning(name, timeout_s, succession, advisers.__getitem__, self._hang_up, CONFIRM_EVERY_S)

    def endpoints(self) -> Iterable[Endpoint]:
        return [*self._servers.values(), *self._advisers.values()]

    def call(self, key: str, request: Any) -> Any:
        """As `Endpoint.call`; None, too, where the primary has to be learnt."""
        if self._learning.is_due():
            return None
        server = self._server()
        try:
            return server.call(key, request)
        except StoreOutage as outage:
            self._heed(outage)
            raise

    def serving(self, key: str | None = None) -> list[Endpoint]:
        """As `Servers.serving`."""
        if self._learning.is_due():
            self._learning.learn()
        return [self._server()]

    def decide(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """Judge a batch, blocking, within the deadline or what is left of it.

        :raises StoreOutage: if there is no answer.
        """
        deadline = None if left_s is None else Deadline(left_s)
        if self._learning.is_due():
            deadline = deadline or Deadline(self._timeout_s)
            self._learning.learn(deadline.left_s())
        server = self._server()
        try:
            answers = server.decide(groups) if deadline is None else deadline.decide(server, groups)
        except StoreOutage as outage:
            self._heed(outage)
            raise
        for answer in answers:
            self._heed(answer)
        return answers

    async def decide_async(self, groups: Sequence[Group]) -> list[Decision]:
        """As `decide`.

        :raises StoreOutage: if there is one for any of the groups.
        """
        deadline = None
        if self._learning.is_due():
            deadline = Deadline(self._timeout_s)
            await self._learning.learn_async(deadline.left_s())
        server = self._server()
        try:
            return await (server.decide_async(groups) if deadline is None else deadline.decide_async(server, groups))
        except StoreOutage as outage:
            self._heed(outage)
            raise

    def _server(self) -> Endpoint:
        address = self._succession.primary()
        if address is None:
            raise self._learning.problem() or StoreUnavailable(self.name, "it is not known which server is the primary")
        server = self._servers.get(address)
        if server is None:
            server = self._servers.setdefault(address, self._make_server(self, address))
        return server

    def _heed(self, answer: Answer) -> None:
        if isinstance(answer, StoreOutage) and answer.is_of_server:
            self._succession.failed()

    def _hang_up(self) -> None:
        """Hang up on those that are no primary any more."""
        for address in list(self._servers):
            if address not in self._succession.nodes:
                left = self._servers.pop(address, None)
                if left is not None:
                    left.retire()

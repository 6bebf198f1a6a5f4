"""A node of a Redis Cluster. Who is asked for what is said in `remote/cluster.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from headgate.batching import Arrive
from headgate.decision import Answer
from headgate.drive import Plan
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, SingleHit
from headgate.plans import cluster as plans
from headgate.plans.redis import Script
from headgate.plans.topology import ASK_FOR_SLOTS, Address
from headgate.stores.connections import PendingRequest
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.server import Server
from headgate.stores.remote import Cluster, Endpoint, Node, Terms

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class RedisNode(Server, Node):
    """A node: it is asked by slot, and may say that another serves a slot.

    :param is_asking: is each script to be prefaced with `ASKING`: the node takes part of a slot from another?
    """

    def __init__(
        self, connector: Connector, prefix: str, terms: Terms, cluster: Cluster, address: Address, is_asking: bool
    ) -> None:
        self._address = address
        self._slot_of = cluster.slot_of
        self._topology = cluster.topology
        self.preface = _ASKING if is_asking else b""
        self.give_back = cluster.decide  # by now, another node may have to be asked
        self.give_back_soon = cluster.give_back_soon
        super().__init__(connector.at(*address), prefix, terms)

    def plan(self, groups: Sequence[Group]) -> Plan[list[Script], list[Answer]]:
        return plans.at_node(groups, self._slot_of, self.in_one)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        return Endpoint.begin_alike(self, single, keys, arrive)  # they may lie in several slots

    def refused(self, text: str) -> StoreOutage:
        at: StoreOutage | None = plans.redirect_of(text, self.name, self._address, self._topology)
        if at is None and text.startswith(("MOVED ", "ASK ")):
            at = StoreUnavailable(self.name, f"it does not say where the slot is served: {text!r}")
        return at or super().refused(text)

    def slots(self) -> object:
        try:
            return self.attempt(self.ask, ASK_FOR_SLOTS, 0, self.admit())
        except StoreOutage as outage:
            return outage

    async def slots_async(self) -> object:
        def begin(_: object, arrive: Arrive) -> Callable[[], None]:
            def replied(replies: list[Any] | StoreOutage) -> None:
                arrive(replies if isinstance(replies, StoreOutage) else [self.meaning(replies[0])])

            asked: PendingRequest = self.connection().ask(ASK_FOR_SLOTS, 1, replied)
            return asked.give_up

        try:
            return await self.inquire_async(begin)
        except StoreOutage as outage:
            return outage

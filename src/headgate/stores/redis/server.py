"""One server: how it answers a batch, blocking and in an event loop.

This module must not know what a script does, nor who is asked for what: that is said in `remote/cluster.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
from redis import exceptions

from headgate.batching import Arrive
from headgate.decision import Answer
from headgate.drive import Plan, drive, drive_by_callback
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, SingleHit
from headgate.plans import cluster as cluster_plans
from headgate.plans import redis as plans
from headgate.plans.redis import Script, ScriptMissing, singly
from headgate.plans.redis.resp import command
from headgate.plans.topology import Address
from headgate.stores.redis.connector import Connector
from headgate.stores.remote import Cluster, Endpoint, Servers, Terms
from headgate.stores.remote.connections import ConnectionPool, LoopConnection, PendingRequest

_ASKING: Final = command("ASKING")
_OF_KEYS: Final = ("MOVED ", "ASK ", "TRYAGAIN", "CROSSSLOT", "NOPERM", "ERR No such master")
"""How errors begin that may be about what is asked for alone: the keys of a script, or a sentinel's service."""


class Server(Endpoint):
    """A server, or a node of a cluster.

    :param prefix: the first part of every key, perhaps with a hash tag.
    """

    preface = b""
    """Sent before each script, and answered by itself."""

    def __init__(self, connector: Connector, prefix: str, terms: Terms, whole: Servers | None = None) -> None:
        self.connector: Final = connector
        self._prefix = prefix
        self._pool = ConnectionPool(connector)
        super().__init__(connector.name, terms, whole)

    def plan(self, groups: Sequence[Group]) -> Plan[list[Script], list[Answer]]:
        """The plan for a batch. What it asks for in one list goes in one write."""
        return cluster_plans.in_one(groups, self.in_one)

    def in_one(self, groups: Sequence[Group]) -> Plan[Script, list[Answer]]:
        """The plan that judges groups in one script call."""
        near_us, now_us = self.learnt.near_us(), self.learnt.now_us()
        return plans.decide(groups, prefix=self._prefix, near_us=near_us, now_us=now_us, refused=self.refused_one)

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        until_s = time.monotonic() + (self.timeout_s if left_s is None else left_s)
        return drive(self.plan(groups), lambda scripts: self._send(scripts, until_s - time.monotonic()))

    def begin(self, groups: Sequence[Group], arrive: Arrive) -> Callable[[], None]:
        return self._carry_out(self.plan(groups), arrive)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        if type(single) is not plans.BucketSingleHit or len(keys) == 1 or self.learnt.clock is not None:
            return super().begin_alike(single, keys, arrive)
        plan = plans.decide_alike(single, keys, prefix=self._prefix, refused=self.refused_one)
        return self._carry_out(singly(plan), arrive)

    def overdue(self) -> StoreOutage:
        return self.connector.overdue()

    def ask(self, request: bytes) -> Any:
        (reply,) = self._ask(request, 1)
        if type(reply) is list:
            return reply
        meaning = self.meaning(reply)
        if isinstance(meaning, StoreOutage):
            raise meaning
        return None if isinstance(meaning, ScriptMissing) else meaning

    def _send(self, scripts: list[Script], left_s: float | None = None) -> list[Any]:
        return self._meanings(self._ask(self._packed(scripts), len(scripts), left_s))

    def _ask(self, packed: bytes, count: int, left_s: float | None = None) -> list[Any]:
        try:
            return self._pool.ask(packed, 2 * count if self.preface else count, left_s)
        except (exceptions.RedisError, hiredis.HiredisError, OSError) as error:
            raise self.connector.outage(error) from error

    def _carry_out(self, plan: Plan[list[Script], list[Answer]], arrive: Arrive) -> Callable[[], None]:
        connection: LoopConnection = self.connection()
        request: PendingRequest | None = None

        def send(scripts: list[Script], resume: Callable[[Any], None]) -> None:
            nonlocal request

            def replied(replies: list[Any] | StoreOutage) -> None:
                resume(replies if isinstance(replies, StoreOutage) else self._meanings(replies))

            count = 2 * len(scripts) if self.preface else len(scripts)
            request = connection.ask(self._packed(scripts), count, replied)

        def give_up() -> None:
            if request is not None:
                request.give_up()

        drive_by_callback(plan, send, arrive)
        return give_up

    def _packed(self, scripts: list[Script]) -> bytes:
        preface = self.preface
        return b"".join([preface + script.packed for script in scripts] if preface else [one.packed for one in scripts])

    def _meanings(self, replies: list[Any]) -> list[Any]:
        if self.preface:  # where that is refused, the script was not let in
            pairs = zip(replies[::2], replies[1::2], strict=True)
            replies = [before if type(before) is hiredis.ReplyError else reply for before, reply in pairs]
        return [self.meaning(reply) for reply in replies]

    def meaning(self, reply: Any) -> Any:
        """Turn a reply into a value for the plan: itself, the news that a script is missing, or an outage."""
        if type(reply) is not hiredis.ReplyError:
            return reply
        text = str(reply)
        return ScriptMissing() if text.startswith("NOSCRIPT") else self.refused(text)

    def refused(self, text: str) -> StoreOutage:
        """Make an outage of the server's error."""
        outage = self.connector.refused(text)
        outage.is_of_server = not text.startswith(_OF_KEYS)
        return outage

    def refused_one(self, text: str) -> StoreOutage:
        """Make an outage of the script's error about one group."""
        outage = self.refused(text)
        outage.is_of_server = False
        return outage

    def replies_to(self, request: bytes, count: int, left_s: float) -> list[Any] | StoreOutage:
        try:
            return _unless_first(self.answers_to(request, count, min(left_s, self.timeout_s)))
        except StoreOutage as outage:
            return outage

    def answers_to(self, request: bytes, count: int, left_s: float | None = None) -> list[Any]:
        """Ask something else than scripts, blocking: the `count` replies, of which an error is an outage.

        :raises StoreOutage: if the server does not answer.
        """

        def ask(request: bytes) -> list[Any]:
            return [self.meaning(reply) for reply in self._ask(request, count, left_s)]

        answers: list[Any] = self.attempt(ask, request, 0, self.admit())
        return answers

    async def replies_to_async(self, request: bytes, count: int) -> list[Any] | StoreOutage:
        def begin(_: object, arrive: Arrive) -> Callable[[], None]:
            def replied(replies: list[Any] | StoreOutage) -> None:
                if not isinstance(replies, StoreOutage):
                    replies = _unless_first([self.meaning(reply) for reply in replies])
                arrive(replies if isinstance(replies, StoreOutage) else [replies])  # type: ignore[list-item]  # no group

            asked: PendingRequest = self.connection().ask(request, count, replied)
            return asked.give_up

        try:
            replies: list[Any] = await self.inquire_async(begin)
        except StoreOutage as outage:
            return outage
        return replies

    def open_in_loop(self) -> LoopConnection:
        return LoopConnection(self.connector)

    def close_idle(self) -> None:
        self._pool.close()


class RedisNode(Server):
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
        super().__init__(connector.at(*address), prefix, terms, cluster)

    def plan(self, groups: Sequence[Group]) -> Plan[list[Script], list[Answer]]:
        return cluster_plans.at_node(groups, self._slot_of, self.in_one)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        return Endpoint.begin_alike(self, single, keys, arrive)  # they may lie in several slots

    def refused(self, text: str) -> StoreOutage:
        at: StoreOutage | None = cluster_plans.redirect_of(text, self.name, self._address, self._topology)
        if at is None and text.startswith(("MOVED ", "ASK ")):
            at = StoreUnavailable(self.name, f"it does not say where the slot is served: {text!r}")
        return at or super().refused(text)


def _unless_first(replies: list[Any]) -> list[Any] | StoreOutage:
    """Some replies, or the outage that the first of them is."""
    return replies[0] if isinstance(replies[0], StoreOutage) else replies

"""A Redis Cluster: its nodes, each a server of its own, and who is asked for what.

Calls travel together to each node by itself, and each has a breaker of its own, so that a node that hangs holds up
nobody who asks another. This module must not know what a script does, nor how a connection works.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, Literal

from headgate.batching import Arrive, decisions
from headgate.breaker import Breaker
from headgate.decision import Answer, Decision
from headgate.drive import Plan, drive, drive_async
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Group, SingleHit
from headgate.keys import slot_finder
from headgate.plans import cluster as plans
from headgate.plans.redis import Script
from headgate.plans.topology import ASK_FOR_SLOTS, Address, TimeIsUp, Topology
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.loops import PerLoop, finish, running_loop, start
from headgate.stores.redis.awaited import PendingRequest
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.server import Server
from headgate.stores.remote import Endpoint, Learnt

LEARN_EVERY_S: Final = 0.1
"""Who serves what is asked for again after this time at the earliest, however often nodes fail."""

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"

_Place = tuple[Address, bool]
"""Where a node is, and whether it is to be asked by way of exception: see `Node`."""


class Node(Server):
    """A node: it is asked by slot, and may say that another serves a slot.

    :param is_asking: is each script to be prefaced with `ASKING`: the node takes part of a slot from another?
    """

    def __init__(self, cluster: Cluster, address: Address, *, is_asking: bool) -> None:
        self._address = address
        self._topology = cluster.topology
        self._slot_of = cluster.slot_of
        self.preface = _ASKING if is_asking else b""
        self.give_back = cluster.decide  # by now, another node may have to be asked
        self.give_back_soon = cluster.give_back_soon
        super().__init__(
            cluster.connector.at(*address),
            cluster.prefix,
            cluster.learnt,
            coalesces=cluster.coalesces,
            breaker=cluster.breaker,
        )

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
        """What it answers to `CLUSTER SLOTS`; an outage is an answer."""
        try:
            return self.attempt(self.ask, ASK_FOR_SLOTS, 0, self.admit())
        except StoreOutage as outage:
            return outage

    async def slots_async(self) -> object:
        """As `slots`."""

        def begin(_: object, arrive: Arrive) -> Callable[[], None]:
            def replied(replies: list[Any] | StoreOutage) -> None:
                arrive(replies if isinstance(replies, StoreOutage) else [self.meaning(replies[0])])

            asked: PendingRequest = self.connection().ask(ASK_FOR_SLOTS, 1, replied)
            return asked.give_up

        try:
            return await self.inquire_async(begin)
        except StoreOutage as outage:
            return outage


class Cluster:
    """All the nodes. Making it does not connect. Safe to share between threads, event loops and forked processes.

    :param name: what outages call it where no node is at fault.
    :param connector: opens connections to any node.
    :param topology: knows the first nodes.
    """

    def __init__(
        self,
        name: str,
        connector: Connector,
        topology: Topology,
        prefix: str,
        learnt: Learnt,
        *,
        coalesces: bool,
        breaker: Breaker | Literal[False],
    ) -> None:
        self._name = name
        self.connector = connector
        self.topology = topology
        self.prefix = prefix
        self.learnt = learnt
        self.coalesces = coalesces
        self.breaker = breaker
        self.slot_of = slot_finder(prefix)
        self._nodes: dict[_Place, Node] = {}
        self._learn_at_s = 0.0
        self._locks = PerLoop(lambda _: asyncio.Lock())
        self.begin()
        begin_afresh_in_child(self, Cluster.begin)
        self._unlearnt: StoreOutage | None = None
        """Why it could not be learnt who serves what, where that is so."""

    def begin(self) -> None:
        """Begin afresh: in a forked process, whoever was learning is not there."""
        self._lock = threading.RLock()  # a signal's handler may ask, too, in the thread that learns
        """Held while a thread learns who serves what: the others who cannot go on without that wait for it."""

    def endpoints(self) -> Iterable[Endpoint]:
        return list(self._nodes.values())

    def call(self, key: str, request: bytes) -> Any:
        """As `Endpoint.call`, at the node that serves a key; None, too, where that has to be learnt."""
        address = self._owner(key)
        if address is None:
            return None
        try:
            return self._node((address, False)).call(key, request)
        except plans.Redirect:
            return None
        except StoreOutage as outage:
            self._heed(outage, address)
            raise

    def _owner(self, key: str) -> Address | None:
        """The node that serves a key; None where that has to be learnt."""
        return None if self._is_to_learn() else self.topology.owner(self.slot_of(key))

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch, blocking. A group in several slots takes a round trip for each, and one to give
        back.
        """
        if self._is_to_learn():
            with self._lock:
                if self._is_to_learn():  # still, though somebody else has just tried
                    with self._learning() as until_s:
                        drive(self.topology.learning(self._name), partial(self._slots, until_s))
        return drive(plans.decide(groups, self.slot_of, self.topology), self._send)

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """As `decide`.

        :raises StoreOutage: if there is one for any of the groups.
        """
        if len(groups) == 1:  # nearly always, one key of a known node: the fast path
            first, *others = groups[0].hits
            if all(hit.key == first.key for hit in others) and (address := self._owner(first.key)) is not None:
                return self._decide_there(groups, address)
        return self._decide_anywhere(groups)

    async def _decide_there(self, groups: Sequence[Group], address: Address) -> list[Decision]:
        try:
            return await self._node((address, False)).decide_async(groups)
        except plans.Redirect:
            return await self._decide_anywhere(groups)
        except StoreOutage as outage:
            self._heed(outage, address)
            raise

    async def _decide_anywhere(self, groups: Sequence[Group]) -> list[Decision]:
        if self._is_to_learn():
            async with self._locks.get(running_loop()):
                if self._is_to_learn():
                    with self._learning() as until_s:
                        await drive_async(self.topology.learning(self._name), partial(self._slots_async, until_s))
        plan = plans.decide(groups, self.slot_of, self.topology)
        return decisions(await drive_async(plan, self._send_async))

    def give_back_soon(self, groups: Sequence[Group]) -> None:
        """Give something back, in this event loop; nobody waits for it."""
        start(self._give_back(groups))

    async def _give_back(self, groups: Sequence[Group]) -> None:
        with suppress(StoreOutage):  # then it lapses
            await self._decide_anywhere(groups)

    def _send(self, routed: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(routed)
        try:
            if pause_ms := max((one.pause_ms for one in routed), default=0):
                time.sleep(pause_ms / 1_000)
            for place, indices in self._by_place(routed).items():
                told: list[Answer]
                try:
                    told = self._node(place).decide([routed[index].group for index in indices])
                except StoreOutage as outage:
                    told = [outage] * len(indices)
                for index, answer in zip(indices, told, strict=True):
                    answers[index] = self._heed(answer, place[0])
            return self._complete(answers)
        except BaseException:  # a signal's: nobody gets to see what the other nodes answered
            drive(plans.give_back(answers, self.slot_of, self.topology), self._send)
            raise

    async def _send_async(self, routed: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(routed)

        async def do(index: int, one: plans.RoutedGroup) -> None:
            if one.group.action == "give_back":  # whoever is cancelled would not see where it has to go on to
                answers[index] = await drive_async(plans.follow(one, self.topology), self._ask)
            else:
                (answers[index],) = await self._ask([one])

        work = [do(index, one) for index, one in enumerate(routed)]
        done: Awaitable[object] = work[0] if len(work) == 1 else asyncio.gather(*work)
        if any(one.group.action == "give_back" for one in routed):  # it has to arrive, whoever is cancelled
            done = finish(done)
        try:
            await done
        except BaseException:  # nobody gets to see what the other nodes answered
            await drive_async(plans.give_back(answers, self.slot_of, self.topology), self._send_async)
            raise
        return self._complete(answers)

    async def _ask(self, routed: list[plans.RoutedGroup]) -> list[Answer]:
        """Ask for one group, at one node."""
        (one,) = routed
        if one.pause_ms:
            await asyncio.sleep(one.pause_ms / 1_000)
        for place in self._by_place(routed):
            try:
                return [*await self._node(place).decide_async((one.group,))]
            except StoreOutage as outage:
                return [self._heed(outage, place[0])]
        return [self._nobody()]

    def _complete(self, answers: list[Answer | None]) -> list[Answer]:
        return [self._nobody() if answer is None else answer for answer in answers]

    def _by_place(self, routed: list[plans.RoutedGroup]) -> dict[_Place, list[int]]:
        """Which groups go to which node. Those for which there is none are left out."""
        places: dict[_Place, list[int]] = {}
        for index, (_, slot, at, _) in enumerate(routed):
            address = self.topology.owner(slot) if at is None else at.address
            if address is None:
                self.topology.is_doubtful = True  # somebody may serve it by now
            else:
                places.setdefault((address, at is not None and at.is_asking), []).append(index)
        return places

    def _heed(self, answer: Answer, address: Address) -> Answer:
        if isinstance(answer, StoreOutage) and answer.is_of_server:
            self.topology.failed(address)
        return answer

    def _node(self, place: _Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            address, is_asking = place
            node = self._nodes.setdefault(place, Node(self, address, is_asking=is_asking))
        return node

    def _is_to_learn(self) -> bool:
        topology = self.topology
        return (topology.is_doubtful or not topology.nodes) and time.monotonic() >= self._learn_at_s

    def _nobody(self) -> StoreOutage:
        """Why there is nobody to ask. A new one each time: what is raised keeps all that it went through."""
        outage = self._unlearnt
        if outage is None:
            return StoreUnavailable(self._name, "no node of the cluster serves this slot")
        kind = StoreTimeout if isinstance(outage, StoreTimeout) else StoreUnavailable
        return kind(outage.store, outage.problem)

    def _slots(self, until_s: float, address: Address) -> object:
        return self._node((address, False)).slots() if time.monotonic() < until_s else TimeIsUp()

    async def _slots_async(self, until_s: float, address: Address) -> object:
        return await self._node((address, False)).slots_async() if time.monotonic() < until_s else TimeIsUp()

    @contextmanager
    def _learning(self) -> Iterator[float]:
        """Until when to ask. Whom nobody tells goes on with what is known. Nodes that have left are hung up on."""
        until_s = time.monotonic() + self.connector.timeout_s
        if self._unlearnt is not None:
            self._learn_at_s = until_s  # whoever comes meanwhile is told so, and does not wait
        try:
            yield until_s
            self._unlearnt = None
            for address, is_asking in list(self._nodes):
                if is_asking or address not in self.topology.nodes:
                    left = self._nodes.pop((address, is_asking), None)
                    if left is not None:
                        left.retire()
        except StoreOutage as outage:
            self._unlearnt = outage.with_traceback(None)
        self._learn_at_s = time.monotonic() + LEARN_EVERY_S  # not after an interruption, which says nothing

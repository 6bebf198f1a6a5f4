"""A Redis Cluster: its nodes, each a server of its own, and who is asked for what.

Calls travel together to each node by itself, so that a node that hangs holds up nobody who asks another. This module
must not know what a script does, nor how a connection works.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

from headgate.batching import decisions
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
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.ledger import Ledger
from headgate.stores.redis.server import Server

LEARN_EVERY_S: Final = 0.1
"""Who serves what is asked for again after this time at the earliest, however often nodes fail."""

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"

_Place = tuple[Address, bool]
"""Where a node is, and whether it is to be asked by way of exception: see `Node`."""


class Node(Server):
    """A node: it is asked by slot, and may say that a slot is served elsewhere.

    :param is_asking: is each script to be prefaced with `ASKING`: the node takes part of a slot from another?
    """

    def __init__(self, cluster: Cluster, address: Address, *, is_asking: bool) -> None:
        self._address = address
        self._topology = cluster.topology
        self._slot_of = cluster.slot_of
        self._preface = _ASKING if is_asking else b""
        self._give_back = cluster.decide  # by now, that may have to go elsewhere
        self._give_back_soon = cluster.give_back_soon
        super().__init__(cluster.connector.at(*address), cluster.ledger, coalesces=cluster.coalesces)

    def _plan(self, groups: Sequence[Group]) -> Plan[list[Script], list[Answer]]:
        return plans.at_node(groups, self._slot_of, self._in_one)

    def _plan_alike(self, fare: SingleHit, keys: Sequence[str]) -> None:
        return None

    def _refused(self, text: str) -> StoreOutage:
        at = plans.elsewhere(text, self.connector.name, self._address, self._topology)
        if at is not None:
            return at
        if text.startswith(("MOVED ", "ASK ")):
            return StoreUnavailable(self.connector.name, f"it does not say where the slot is served: {text!r}")
        return super()._refused(text)


class Cluster:
    """See above. Making it does not connect. Safe to share between threads, event loops and forked processes.

    :param name: what outages call it where no node is at fault.
    :param connector: opens connections to any node.
    :param topology: knows the first nodes.
    """

    def __init__(self, name: str, connector: Connector, topology: Topology, ledger: Ledger, *, coalesces: bool) -> None:
        self._name = name
        self.connector = connector
        self.topology = topology
        self.ledger = ledger
        self.coalesces = coalesces
        self.slot_of = slot_finder(ledger.prefix)
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

    def call(self, key: str, packed: bytes) -> Any:
        """As `Server.call`, at the node that serves a key; None, too, where that has to be learnt."""
        address = self._owner(key)
        if address is None:
            return None
        try:
            return self._node((address, False)).call(packed)
        except plans.Redirect:
            return None
        except StoreOutage:
            self.topology.failed(address)
            raise

    def _owner(self, key: str) -> Address | None:
        """The node that serves a key; None where that has to be learnt."""
        return None if self._is_to_learn() else self.topology.owner(self.slot_of(key))

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch, blocking. A group in several slots takes a trip for each, and one to give back."""
        if self._is_to_learn():
            with self._lock:
                if self._is_to_learn():  # still, though somebody else has just tried
                    with self._learning() as until_s:
                        drive(self.topology.learning(self._name), partial(self._ask_for_slots, until_s))
        return drive(plans.decide(groups, self.slot_of, self.topology), self._send)

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """As `decide`.

        :raises StoreOutage: if there is one for any of the groups.
        """
        if len(groups) == 1:  # nearly always, one key of a known node: straight through
            first, *others = groups[0].hits
            if all(hit.key == first.key for hit in others) and (address := self._owner(first.key)) is not None:
                return self._decide_there(groups, address)
        return self._decide_anywhere(groups)

    async def _decide_there(self, groups: Sequence[Group], address: Address) -> list[Decision]:
        try:
            return await self._node((address, False)).decide_async(groups)
        except plans.Redirect:
            return await self._decide_anywhere(groups)
        except StoreOutage:
            self.topology.failed(address)
            raise

    async def _decide_anywhere(self, groups: Sequence[Group]) -> list[Decision]:
        if self._is_to_learn():
            async with self._locks.get(running_loop()):
                if self._is_to_learn():
                    with self._learning() as until_s:
                        plan = self.topology.learning(self._name)
                        await drive_async(plan, partial(self._ask_for_slots_async, until_s))
        errands = plans.decide(groups, self.slot_of, self.topology)
        return decisions(await drive_async(errands, self._send_async))

    def give_back_soon(self, groups: Sequence[Group]) -> None:
        """Give something back, in this event loop; nobody waits for it."""
        start(self._give_back(groups))

    async def _give_back(self, groups: Sequence[Group]) -> None:
        with suppress(StoreOutage):  # then it lapses
            await self._decide_anywhere(groups)

    def _send(self, errands: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(errands)
        try:
            if pause_ms := max((errand.pause_ms for errand in errands), default=0):
                time.sleep(pause_ms / 1_000)
            for place, indices in self._by_place(errands).items():
                told: list[Answer]
                try:
                    told = self._node(place).decide([errands[index].group for index in indices])
                except StoreOutage as outage:
                    told = [outage] * len(indices)
                for index, answer in zip(indices, told, strict=True):
                    answers[index] = self._heeded(answer, place)
            return self._complete(answers)
        except BaseException:  # a signal's: nobody gets to see what the other nodes answered
            drive(plans.give_back(answers, self.slot_of, self.topology), self._send)
            raise

    async def _send_async(self, errands: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(errands)

        async def do(index: int, errand: plans.RoutedGroup) -> None:
            if errand.group.action == "give_back":  # whoever is cancelled would not see where it has to go on to
                answers[index] = await drive_async(plans.follow(errand, self.topology), self._ask)
            else:
                (answers[index],) = await self._ask([errand])

        work = [do(index, errand) for index, errand in enumerate(errands)]
        done: Awaitable[object] = work[0] if len(work) == 1 else asyncio.gather(*work)
        if any(errand.group.action == "give_back" for errand in errands):  # it has to arrive, whoever is cancelled
            done = finish(done)
        try:
            await done
        except BaseException:  # nobody gets to see what the other nodes answered
            await drive_async(plans.give_back(answers, self.slot_of, self.topology), self._send_async)
            raise
        return self._complete(answers)

    async def _ask(self, errands: list[plans.RoutedGroup]) -> list[Answer]:
        """Do one errand, at one node."""
        (errand,) = errands
        if errand.pause_ms:
            await asyncio.sleep(errand.pause_ms / 1_000)
        for place in self._by_place(errands):
            try:
                return [*await self._node(place).decide_async((errand.group,))]
            except StoreOutage as outage:
                return [self._heeded(outage, place)]
        return [self._nobody()]

    def _complete(self, answers: list[Answer | None]) -> list[Answer]:
        return [self._nobody() if answer is None else answer for answer in answers]

    def _by_place(self, errands: list[plans.RoutedGroup]) -> dict[_Place, list[int]]:
        """Which errands go to which node. Those for which there is none are left out."""
        places: dict[_Place, list[int]] = {}
        for index, (_, slot, at, _) in enumerate(errands):
            address = self.topology.owner(slot) if at is None else at.address
            if address is None:
                self.topology.is_doubtful = True  # somebody may serve it by now
            else:
                places.setdefault((address, at is not None and at.is_asking), []).append(index)
        return places

    def _heeded(self, answer: Answer, place: _Place) -> Answer:
        if isinstance(answer, StoreOutage) and not isinstance(answer, plans.Redirect):
            self.topology.failed(place[0])
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

    def _ask_for_slots(self, until_s: float, address: Address) -> object:
        node = self._node((address, False))
        return node.ask(ASK_FOR_SLOTS) if time.monotonic() < until_s else TimeIsUp()

    async def _ask_for_slots_async(self, until_s: float, address: Address) -> object:
        node = self._node((address, False))
        return await node.ask_async(ASK_FOR_SLOTS) if time.monotonic() < until_s else TimeIsUp()

    @contextmanager
    def _learning(self) -> Iterator[float]:
        """Until when to ask. Whom nobody tells goes on with what is known. Nodes that have left are hung up on."""
        try:
            yield time.monotonic() + self.connector.timeout_s
            self._unlearnt = None
            for address, is_asking in list(self._nodes):
                if is_asking or address not in self.topology.nodes:
                    left = self._nodes.pop((address, is_asking), None)
                    if left is not None:
                        left.retire()
        except StoreOutage as outage:
            self._unlearnt = outage.with_traceback(None)
        self._learn_at_s = time.monotonic() + LEARN_EVERY_S  # not after an interruption, which says nothing

    def close(self) -> None:
        """As `Server.close`, of all nodes."""
        for node in list(self._nodes.values()):
            node.close()

    def close_loops(self) -> None:
        """As `Server.close_loops`, of all nodes."""
        for node in list(self._nodes.values()):
            node.close_loops()

    async def close_loop(self) -> None:
        """As `Server.close_loop`, of all nodes."""
        for node in list(self._nodes.values()):
            await node.close_loop()

    async def aclose(self) -> None:
        """As `Server.aclose`, of all nodes."""
        for node in list(self._nodes.values()):
            await node.aclose()

"""A cluster: several servers, of which each serves some of the slots that the keys lie in, and who is asked for what.

Calls go together to each node by itself, and each has a breaker of its own, so that a node that hangs holds up
nobody who asks another. This module must not know how a node is reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from headgate.batching import decisions
from headgate.decision import Answer, Decision
from headgate.drive import drive, drive_async
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.keys import slot_finder
from headgate.plans import cluster as plans
from headgate.plans.topology import Address, Topology
from headgate.runtime.loops import finish, start
from headgate.stores.remote.deadline import Deadline
from headgate.stores.remote.endpoint import Endpoint
from headgate.stores.remote.learning import Learning

Place = tuple[Address, bool]
"""Where a node is, and whether it is to be asked by way of exception, since it takes part of a slot from another."""


class Node(Endpoint):
    """A server of a cluster. What it does not serve, it answers with a `Redirect`."""

    def slots(self, left_s: float) -> object:
        """Ask it who serves what, and wait for so long at most; an outage is an answer."""
        raise NotImplementedError

    async def slots_async(self) -> object:
        """As `slots`, for as long as it takes."""
        raise NotImplementedError


MakeNode = Callable[["Cluster", Address, bool], Node]
"""Of a `Place` in a cluster."""


class Cluster:
    """All the nodes. Making it does not connect. Safe to share between threads, event loops and forked processes.

    :param name: what outages call it where no node is at fault.
    :param topology: knows the first nodes.
    :param prefix: the first part of every key.
    :param timeout_s: the deadline of a call, for learning who serves what and asking all whom it takes.
    :param make_node: makes what asks a node, without connecting.
    """

    def __init__(self, name: str, topology: Topology, prefix: str, timeout_s: float, make_node: MakeNode) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self.topology = topology
        self.slot_of = slot_finder(prefix)
        self._make_node = make_node
        self._nodes: dict[Place, Node] = {}
        self._learning = Learning(name, timeout_s, topology, self._slots, self._slots_async, self._hang_up)

    def endpoints(self) -> Iterable[Endpoint]:
        return list(self._nodes.values())

    def call(self, key: str, request: Any) -> Any:
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
        return None if self._learning.is_due() else self.topology.owner(self.slot_of(key))

    def serving(self, key: str | None = None) -> list[Endpoint]:
        """As `Servers.serving`."""
        if self._learning.is_due():
            self._learning.learn()
        addresses = list(self.topology.nodes) if key is None else [self.topology.owner(self.slot_of(key))]
        if not addresses or None in addresses:
            self.topology.is_doubtful = True
            raise self._nobody()
        return [self._node((address, False)) for address in addresses if address is not None]

    def decide(self, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch, blocking, within one deadline. A group in several slots takes a round trip for each, and one
        to give back.
        """
        deadline = Deadline(self._timeout_s)
        if self._learning.is_due():
            self._learning.learn()
        return drive(plans.decide(groups, self.slot_of, self.topology), partial(self._send, deadline))

    def decide_async(self, groups: Sequence[Group]) -> Coroutine[Any, Any, list[Decision]]:
        """As `decide`.

        :raises StoreOutage: if there is one for any of the groups.
        """
        if len(groups) == 1:  # nearly always, one key of a known node: the fast path
            first, *others = groups[0].hits
            if all(hit.key == first.key for hit in others) and (address := self._owner(first.key)) is not None:
                return self._decide_there(groups, address)
        return self._decide_anywhere(groups, Deadline(self._timeout_s))

    async def _decide_there(self, groups: Sequence[Group], address: Address) -> list[Decision]:
        deadline = Deadline(self._timeout_s)
        try:
            return await self._node((address, False)).decide_async(groups)
        except plans.Redirect:
            return await self._decide_anywhere(groups, deadline)
        except StoreOutage as outage:
            self._heed(outage, address)
            raise

    async def _decide_anywhere(self, groups: Sequence[Group], deadline: Deadline) -> list[Decision]:
        if self._learning.is_due():
            await self._learning.learn_async()
        plan = plans.decide(groups, self.slot_of, self.topology)
        return decisions(await drive_async(plan, partial(self._send_async, deadline)))

    def give_back_soon(self, groups: Sequence[Group]) -> None:
        """Give something back, in this event loop; nobody waits for it."""
        start(self._give_back(groups))

    async def _give_back(self, groups: Sequence[Group]) -> None:
        with suppress(StoreOutage):  # then it lapses
            await self._decide_anywhere(groups, Deadline(self._timeout_s))

    def _send(self, deadline: Deadline, routed: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(routed)
        try:
            if pause_ms := max((one.pause_ms for one in routed), default=0):
                time.sleep(pause_ms / 1_000)
            for place, indices in self._by_place(routed).items():
                told: list[Answer]
                try:
                    told = deadline.decide(self._node(place), [routed[index].group for index in indices])
                except StoreOutage as outage:
                    told = [outage] * len(indices)
                for index, answer in zip(indices, told, strict=True):
                    answers[index] = self._heed(answer, place[0])
            return self._complete(answers)
        except BaseException:  # a signal's: nobody gets to see what the other nodes answered
            drive(plans.give_back(answers, self.slot_of, self.topology), partial(self._send, deadline))
            raise

    async def _send_async(self, deadline: Deadline, routed: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(routed)

        async def do(index: int, one: plans.RoutedGroup) -> None:
            if one.group.action == "give_back":  # whoever is cancelled would not see where it has to go on to
                answers[index] = await drive_async(plans.follow(one, self.topology), partial(self._ask, deadline))
            else:
                (answers[index],) = await self._ask(deadline, [one])

        work = [do(index, one) for index, one in enumerate(routed)]
        done: Awaitable[object] = work[0] if len(work) == 1 else asyncio.gather(*work)
        if any(one.group.action == "give_back" for one in routed):  # it has to arrive, whoever is cancelled
            done = finish(done)
        try:
            await done
        except BaseException:  # nobody gets to see what the other nodes answered
            await drive_async(
                plans.give_back(answers, self.slot_of, self.topology), partial(self._send_async, deadline)
            )
            raise
        return self._complete(answers)

    async def _ask(self, deadline: Deadline, routed: list[plans.RoutedGroup]) -> list[Answer]:
        """Ask for one group, at one node."""
        (one,) = routed
        if one.pause_ms:
            await asyncio.sleep(one.pause_ms / 1_000)
        for place in self._by_place(routed):
            try:
                return [*await deadline.decide_async(self._node(place), (one.group,))]
            except StoreOutage as outage:
                return [self._heed(outage, place[0])]
        return [self._nobody()]

    def _complete(self, answers: list[Answer | None]) -> list[Answer]:
        return [self._nobody() if answer is None else answer for answer in answers]

    def _by_place(self, routed: list[plans.RoutedGroup]) -> dict[Place, list[int]]:
        """Which groups go to which node. Those for which there is none are left out."""
        places: dict[Place, list[int]] = {}
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

    def _node(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            address, is_asking = place
            node = self._nodes.setdefault(place, self._make_node(self, address, is_asking))
        return node

    def _nobody(self) -> StoreOutage:
        """Why there is nobody to ask."""
        return self._learning.problem() or StoreUnavailable(self._name, "no node of the cluster serves this slot")

    def _slots(self, address: Address, left_s: float) -> object:
        return self._node((address, False)).slots(left_s)

    async def _slots_async(self, address: Address) -> object:
        return await self._node((address, False)).slots_async()

    def _hang_up(self) -> None:
        """Hang up on nodes that have left."""
        for address, is_asking in list(self._nodes):
            if is_asking or address not in self.topology.nodes:
                left = self._nodes.pop((address, is_asking), None)
                if left is not None:
                    left.retire()

"""A cluster: several servers, of which each serves some of the slots that the keys lie in, and who is asked for what.

Calls go together to each node by itself, and each has a breaker of its own, so that a node that hangs holds up
nobody who asks another. This module must not know how a node is reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final

from headgate.batching import decisions
from headgate.decision import Answer, Decision
from headgate.drive import drive, drive_async
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group
from headgate.keys import slot_finder
from headgate.plans import cluster as plans
from headgate.plans.lost import GoesOn, tell_lost
from headgate.plans.topology import Address, Topology
from headgate.runtime.loops import finish, start
from headgate.stores.remote.deadline import Deadline
from headgate.stores.remote.endpoint import Endpoint
from headgate.stores.remote.learning import Learning
from headgate.stores.remote.returning import GIVE_BACK_S, RETURNING_S, Returns

Place = tuple[Address, bool]
"""Where a node is, and whether it is to be asked by way of exception, since it takes part of a slot from another."""


MakeNode = Callable[["Cluster", Address, bool], Endpoint]
"""Makes what asks the node at a `Place` in a cluster. What it does not serve, it answers with a `Redirect`."""


class Cluster:
    """All the nodes. Making it does not connect. Safe to share between threads, event loops and forked processes.

    :param name: what outages call it where no node is at fault.
    :param topology: knows the first nodes.
    :param prefix: the first part of every key.
    :param timeout_s: the deadline of a call, for learning who serves what and asking all whom it takes.
    :param make_node: makes what asks a node, without connecting.
    :param clock_s: tells the time of deadlines to threads, and `sleep` is how they pause.
    """

    def __init__(
        self,
        name: str,
        topology: Topology,
        prefix: str,
        timeout_s: float,
        make_node: MakeNode,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name: Final = name
        self._timeout_s = timeout_s
        self.topology = topology
        self.slot_of = slot_finder(prefix)
        self._make_node = make_node
        self._clock_s = clock_s
        self._sleep = sleep
        self._nodes: dict[Place, Endpoint] = {}
        self._learning = Learning(name, timeout_s, topology, self._owning, self._hang_up)
        self._returns = Returns(self._give_back)

    def endpoints(self) -> Iterable[Endpoint]:
        return list(self._nodes.values())

    def call(self, key: str, request: Any) -> Any:
        """As `Endpoint.call`, at the node that serves a key; None, too, where that has to be learnt."""
        address = self._owner(key)
        if address is None:
            return None
        try:
            return self._owning(address).call(key, request)
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
        return [self._owning(address) for address in addresses if address is not None]

    def decide(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        """Judge a batch, blocking, within one deadline, or what is left of it. A group in several slots takes a round
        trip for each, and one to give back; what cannot be given back in time is after the call.
        """
        deadline = Deadline(self._timeout_s if left_s is None else left_s, self._clock_s)
        if self._learning.is_due():
            self._learning.learn(deadline.left_s())
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
            return await self._owning(address).decide_async(groups)
        except plans.Redirect:
            return await self._decide_anywhere(groups, deadline)
        except StoreOutage as outage:
            self._heed(outage, address)
            raise

    async def _decide_anywhere(self, groups: Sequence[Group], deadline: Deadline) -> list[Decision]:
        if self._learning.is_due():
            await self._learning.learn_async(deadline.left_s())
        plan = plans.decide(groups, self.slot_of, self.topology)
        return decisions(await drive_async(plan, partial(self._send_async, deadline)))

    def _send(self, deadline: Deadline, routed: list[plans.RoutedGroup], *, is_call: bool = True) -> list[Answer]:
        """Ask for routed groups, blocking. In a call, what is given back and does not fit in what is left goes on
        after it.
        """
        answers: list[Answer | None] = [None] * len(routed)

        def is_late(one: plans.RoutedGroup) -> bool:
            left_s = deadline.left_s() - one.pause_ms / 1_000
            return is_call and one.group.action == "give_back" and left_s < GIVE_BACK_S

        try:
            late = [index for index, one in enumerate(routed) if is_late(one)]
            in_time = [index for index in range(len(routed)) if index not in late]
            if pause_ms := max((routed[index].pause_ms for index in in_time), default=0):
                self._sleep(pause_ms / 1_000)
            for place, indices in self._by_place(routed, in_time).items():
                late += (later := [index for index in indices if is_late(routed[index])])
                asked = [index for index in indices if index not in later]
                told: list[Answer] = []
                try:
                    if asked:
                        told = deadline.decide(self._node(place), [routed[index].group for index in asked])
                except StoreOutage as outage:
                    told = [outage] * len(asked)
                for index, answer in zip(asked, told, strict=True):
                    answers[index] = self._heed(answer, place[0])
            if late:
                backs = [routed[index].group for index in late]
                goes_on = [GoesOn(self.name, deadline.timeout_s)] * len(late)
                for index, answer in zip(late, self._returns.add(backs, deadline.grace_s()) or goes_on, strict=True):
                    answers[index] = answer
            return self._complete(answers)
        except BaseException:  # a signal's: nobody gets to see what the other nodes answered
            drive(plans.give_back(answers, self.slot_of, self.topology), partial(self._send, deadline))
            raise

    def _give_back(self, groups: Sequence[Group], seconds: float) -> list[Answer]:
        """Give groups back, of one slot each, blocking, in so many seconds."""
        send = partial(self._send, Deadline(seconds, self._clock_s), is_call=False)
        return drive(plans.follow_all(groups, self.slot_of, self.topology), send)

    async def _send_async(self, deadline: Deadline, routed: list[plans.RoutedGroup]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(routed)

        async def do(index: int, asked: Awaitable[Answer]) -> None:
            answers[index] = await asked

        gives_back = any(one.group.action == "give_back" for one in routed)
        asked: list[Awaitable[Answer]] = []
        for one in routed:  # those that go together keep their order
            if one.group.action == "give_back":
                asked.append(self._returned(deadline, self._begin_to_return(one)))
            else:
                asking = self._ask(deadline, one)
                asked.append(asyncio.ensure_future(asking) if gives_back else asking)
        work = [do(index, one) for index, one in enumerate(asked)]
        done: Awaitable[object] = work[0] if len(work) == 1 else asyncio.gather(*work)
        if gives_back:  # whoever is cancelled waits for it, too
            done = finish(done)
        try:
            await done
        except BaseException:  # nobody gets to see what the other nodes answered
            await drive_async(
                plans.give_back(answers, self.slot_of, self.topology), partial(self._send_async, deadline)
            )
            raise
        return self._complete(answers)

    def _begin_to_return(self, one: plans.RoutedGroup) -> asyncio.Future[Answer]:
        """Give a group back wherever its slot has gone, in a task that goes on when the call has returned, or was
        cancelled, and would not see where to ask next.
        """
        later = Deadline(RETURNING_S)

        async def send(routed: list[plans.RoutedGroup]) -> list[Answer]:
            (one,) = routed
            return [await self._ask(later, one)]

        return start(drive_async(plans.follow(one, self.topology), send))

    async def _returned(self, deadline: Deadline, returning: asyncio.Future[Answer]) -> Answer:
        """Wait for what is given back, for as long as the call may."""
        try:
            await asyncio.wait([returning], timeout=deadline.grace_s())
        finally:
            if not returning.done():
                returning.add_done_callback(self._see_to)
        return returning.result() if returning.done() else GoesOn(self.name, deadline.timeout_s)

    def _see_to(self, returning: asyncio.Future[Answer]) -> None:
        """See to a give-back for which no call waits any more."""
        if returning.cancelled():
            tell_lost([StoreUnavailable(self.name, "the event loop ended before it was given back")])
        elif returning.exception() is None:  # or it is a fault of ours, which asyncio tells
            tell_lost([returning.result()])

    async def _ask(self, deadline: Deadline, one: plans.RoutedGroup) -> Answer:
        """Ask for one group, at one node."""
        if one.pause_ms:
            await asyncio.sleep(one.pause_ms / 1_000)
        for place in self._by_place([one], [0]):
            try:
                (answer,) = await deadline.decide_async(self._node(place), (one.group,))
            except StoreOutage as outage:
                return self._heed(outage, place[0])
            return answer
        return self._nobody()

    def _complete(self, answers: list[Answer | None]) -> list[Answer]:
        return [self._nobody() if answer is None else answer for answer in answers]

    def _by_place(self, routed: list[plans.RoutedGroup], indices: list[int]) -> dict[Place, list[int]]:
        """Which of some groups go to which node. Those for which there is none are left out."""
        places: dict[Place, list[int]] = {}
        for index in indices:
            _, slot, at, _ = routed[index]
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

    def _owning(self, address: Address) -> Endpoint:
        """The node that is asked there for the slots that it serves."""
        return self._node((address, False))

    def _node(self, place: Place) -> Endpoint:
        node = self._nodes.get(place)
        if node is None:
            address, is_asking = place
            node = self._nodes.setdefault(place, self._make_node(self, address, is_asking))
        return node

    def _nobody(self) -> StoreOutage:
        """Why there is nobody to ask."""
        return self._learning.problem() or StoreUnavailable(self.name, "no node of the cluster serves this slot")

    def _hang_up(self) -> None:
        """Hang up on nodes that have left."""
        for address, is_asking in list(self._nodes):
            if is_asking or address not in self.topology.nodes:
                left = self._nodes.pop((address, is_asking), None)
                if left is not None:
                    left.retire()

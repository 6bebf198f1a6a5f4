"""A cluster that needs no server: its nodes answer as they would, from memory. Slots move between them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from headgate.clock import ManualClock
from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Group, Hit
from headgate.plans.cluster import Redirect, RoutedGroup, redirect_of
from headgate.plans.groups import takes
from headgate.plans.topology import Address, Topology
from headgate.stores.memory import MemoryStore

NODES: Final = tuple(Address("node", port) for port in (1, 2, 3))
SLOTS: Final = 6

Place = tuple[str, str]
"""Where some state is: key and name."""


def slot_of(key: str) -> int:
    """The slots go by the first letter: `a...`, `b...`."""
    return ord(key[0]) - ord("a")


def places(group: Group) -> set[Place]:
    """What a group touches."""
    return {(hit.key, hit.name) for hit in group.hits}


class FakeCluster:
    """What is in a slot is kept in one store, wherever the slot is; it is judged by the clock of the node.

    What was taken is counted, with the holder: it must not be taken nor given back twice.
    """

    def __init__(self, skews_us: Sequence[int] = (0, 0, 0)) -> None:
        self.clock = ManualClock()
        self.skews_us = dict(zip(NODES, skews_us, strict=True))
        self.owners = {slot: NODES[slot % len(NODES)] for slot in range(SLOTS)}
        self.topology = Topology(NODES)
        for slot, owner in self.owners.items():
            self.topology.moved(slot, owner)
        self.stores = {slot: MemoryStore(functools.partial(self.now_us, slot)) for slot in range(SLOTS)}
        self.targets: dict[int, Address] = {}
        """The slots that are being moved, and where to."""
        self.moved: set[Place] = set()
        """Of those slots, what is already there."""
        self.written: set[Place] = set()
        self.taken: set[tuple[Place, str]] = set()
        self.asked: list[tuple[Address, Group]] = []
        """What was judged."""
        self.lists: list[list[RoutedGroup]] = []
        """What was sent."""

    def now_us(self, slot: int) -> int:
        """The time at the node that owns a slot."""
        return self.clock() + self.skews_us[self.owners[slot]]

    def send(self, routed_groups: list[RoutedGroup]) -> list[Answer]:
        """Ask for routed groups."""
        self.lists.append(routed_groups)
        return [self.answer(routed) for routed in routed_groups]

    def answer(self, routed: RoutedGroup) -> Answer:
        """Do one."""
        group, slot, at, _ = routed
        assert {slot_of(hit.key) for hit in group.hits} == {slot}, "a script touches one slot"
        address = self.topology.owner(slot) if at is None else at.address
        assert address is not None
        text = self._redirection(slot, places(group), address, is_asking=at is not None and at.is_asking)
        if text is not None:
            told = redirect_of(text, f"{address}", address, self.topology)
            assert isinstance(told, Redirect)
            return told
        self.asked.append((address, group))
        (decision,) = self.stores[slot].decide([group])
        self._count(group, decision)
        return decision

    def _redirection(self, slot: int, asked: set[Place], address: Address, *, is_asking: bool) -> str | None:
        owner, target = self.owners[slot], self.targets.get(slot)
        if address == owner:
            here = asked & (self.written - self.moved)
            if target is None or here == asked:
                self.written |= asked
                return None
            return "TRYAGAIN Multiple keys request during rehashing of slot" if here else f"ASK {slot} {target}"
        if address == target and is_asking:
            if len(asked) > 1 and not asked <= self.moved:
                return "TRYAGAIN Multiple keys request during rehashing of slot"
            self.moved |= asked
            self.written |= asked
            return None
        return f"MOVED {slot} {owner}"

    def _count(self, group: Group, decision: Decision) -> None:
        for hit in group.hits:
            taken = (hit.key, hit.name), hit.holder
            if group.action == "spend" and decision.allowed and takes(hit):
                assert taken not in self.taken, f"{taken} is taken twice"
                self.taken.add(taken)
            elif group.action == "give_back":
                assert taken in self.taken, f"{taken} is given back twice"
                self.taken.remove(taken)

    # Slots that move

    def begin_moving(self, slot: int, target: Address) -> None:
        """A slot is to be at another node."""
        if slot not in self.targets and target != self.owners[slot]:
            self.targets[slot] = target

    def move_key(self, slot: int, number: int) -> None:
        """One of its keys goes there."""
        here = sorted(place for place in self.written - self.moved if slot_of(place[0]) == slot)
        if slot in self.targets and here:
            self.moved.add(here[number % len(here)])

    def end_moving(self, slot: int) -> None:
        """All of it is there."""
        if slot in self.targets:
            self.owners[slot] = self.targets.pop(slot)
            self.moved = {place for place in self.moved if slot_of(place[0]) != slot}

    def move(self, slot: int, target: Address) -> None:
        """A slot is at another node at once, as after a failover."""
        self.begin_moving(slot, target)
        self.end_moving(slot)

    # What is there

    def peek(self, hit: Hit) -> Decision:
        """What is known of a hit at its node."""
        return self.stores[slot_of(hit.key)].decide([Group((hit,), 0, "peek")])[0]

    def fill(self, hit: Hit, cost: int | None = None) -> None:
        """Somebody else takes all there is, or `cost`."""
        found = self.peek(hit._replace(cost=0))
        spent = hit._replace(cost=found.remaining if cost is None else cost, holder="somebody else")
        assert self.stores[slot_of(hit.key)].decide([Group((spent,))])[0]
        self.written.add((hit.key, hit.name))


def outage() -> StoreOutage:
    """A node that does not answer."""
    return StoreUnavailable("node", "gone")

"""The plans for Redis Cluster: whom to ask for which part of a group, and what to send to one node.

A script may touch the keys of one slot only. So a caller's groups are asked for at the nodes that serve them
(`decide`), and what goes to one node is sent as one script call for each slot, one behind the other (`at_node`). A
group whose keys lie in several slots is taken part by part, the narrowest limit first, and given back when a later
part denies: never over the limit, at worst briefly under. A penalty that does not lie with what it watches counts a
denial together with what is given back.

A node that does not serve a key says so, and has done nothing: the group goes on to where it points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from headgate.decision import Answer, Decision
from headgate.drive import Plan, together
from headgate.errors import StoreOutage, StoreUnavailable
from headgate.hits import Action, Group, Hit
from headgate.limits import Penalty
from headgate.plans.groups import give_back_groups, returns_of, takes
from headgate.plans.lost import tell_lost
from headgate.plans.redis import Script, singly
from headgate.plans.topology import Address, Topology

MAX_NODES: Final = 5
"""How many nodes are asked for a group, one after the other. A slot that is being moved takes three."""

RETURN_PAUSES_MS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 128, 128, 128, 128)
"""After those, the nodes are asked on for what is given back, with these pauses: a spend that is refused leaves its
caller as it was, but what is not given back is lost. Whoever carries them out sees to it that no call is longer than
its deadline: it may go on after the call (see `GoesOn`).
"""

SlotOf = Callable[[str], int]
"""From a key to its slot."""


_PAUSES_MS: Final = (0,) * MAX_NODES
_RETURN_PAUSES_MS: Final = (*_PAUSES_MS, *RETURN_PAUSES_MS, 0)  # where the last one points to is asked, too


class Redirect(StoreUnavailable):
    """A node does not serve a key, or not now. It has done nothing. What is known of the cluster is to be corrected."""

    is_of_server = False

    def __init__(self, store: str, address: Address | None, *, is_asking: bool = False) -> None:
        super().__init__(store, "another node serves the slot")
        self.address = address
        """Who serves it; None if the slot is being moved, and some of the keys are here and some there."""
        self.is_asking = is_asking
        """Is it to be asked for there by way of exception, since the slot is being moved there?"""


class Removed(Redirect):
    """While its slot was being moved, a key was removed by an earlier group of the script: from then on, it is to be
    made where the slot goes. For a group of one hit, nothing was done.
    """

    def __init__(self, store: str) -> None:
        super().__init__(store, None)


def redirect_of(text: str, store: str, asked: Address, topology: Topology) -> Redirect | None:
    """Read from the error of a node where to ask; None if it says nothing of the kind."""
    kind, *words = text.split() or [""]
    if kind in ("MOVED", "ASK") and len(words) == 2:
        host, _, port = words[1].rpartition(":")
        if port.isdecimal() and host != "?":
            return Redirect(store, topology.told(host, int(port), asked), is_asking=kind == "ASK")
    if "attempted to access a non local key" in text.lower():
        return Removed(store)
    return Redirect(store, None) if kind == "TRYAGAIN" else None


class RoutedGroup(NamedTuple):
    """A group, whose keys lie in one slot, to be asked for."""

    group: Group
    slot: int
    at: Redirect | None = None
    """Where to ask, if not at the slot's owner."""
    pause_ms: int = 0
    """The time to wait before."""


def decide(groups: Sequence[Group], slot_of: SlotOf, topology: Topology) -> Plan[list[RoutedGroup], list[Answer]]:
    """Judge the groups of a caller. Asks for lists of routed groups, which may be asked for side by side; the
    reply is a list of answers.
    """
    if len(groups) == 1:  # nearly always
        return together([_judge(groups[0], slot_of, topology)])
    return _judge_all(groups, slot_of, topology)


def give_back(
    answers: Sequence[Answer | None], slot_of: SlotOf, topology: Topology
) -> Plan[list[RoutedGroup], list[Answer]]:
    """Give back all that was taken, where nobody gets to see the answers."""
    answered = yield from follow_all(returns_of(answers), slot_of, topology)
    tell_lost(answered)
    return answered


def at_node(
    groups: Sequence[Group], slot_of: SlotOf, decide: Callable[[Sequence[Group]], Plan[Script, list[Answer]]]
) -> Plan[list[Script], list[Answer]]:
    """Judge what came to one node: a script call for each slot. `decide` is the plan for the groups of a slot."""
    slots: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        slots.setdefault(slot_of(group.hits[0].key), []).append(index)
    by_slot = yield from together([in_one([groups[index] for index in own], decide) for own in slots.values()])
    answers: dict[int, Answer] = {}
    for indices, answered in zip(slots.values(), by_slot, strict=True):
        answers.update(zip(indices, answered, strict=True))
    return [answers[index] for index in range(len(groups))]


def judge_hits_apart(group: Group) -> Plan[list[RoutedGroup], Answer]:
    """Judge a group hit by hit, where each has to be asked for by itself and nobody redirects: as `decide` does with
    keys in several slots.
    """
    return _judge_apart(group, [[index] for index in range(len(group.hits))], lambda _: 0, Topology([]))


def in_one(
    groups: Sequence[Group], decide: Callable[[Sequence[Group]], Plan[Script, list[Answer]]]
) -> Plan[list[Script], list[Answer]]:
    """Judge groups in one script call. Where the slot is being moved, and some of its keys are at another node,
    each by itself.
    """
    try:
        answers = yield from singly(decide(groups))
    except StoreOutage as outage:
        return [outage] * len(groups)
    apart = [index for index, answer in enumerate(answers) if isinstance(answer, Redirect) and answer.address is None]
    if len(apart) > 1:  # all others have been judged
        answered = yield from together([in_one([groups[index]], decide) for index in apart])
        for index, (answer,) in zip(apart, answered, strict=True):
            answers[index] = answer
    return answers


def _judge_all(groups: Sequence[Group], slot_of: SlotOf, topology: Topology) -> Plan[list[RoutedGroup], list[Answer]]:
    done: list[Answer] = []

    def judge(group: Group) -> Plan[list[RoutedGroup], Answer]:
        answer = yield from _judge(group, slot_of, topology)
        done.append(answer)
        return answer

    try:
        return (yield from together([judge(group) for group in groups]))
    except GeneratorExit:  # dropped: nobody is there to send what we would ask
        raise
    except BaseException:  # nobody gets to see the answers that have come
        yield from give_back(done, slot_of, topology)
        raise


def _judge(group: Group, slot_of: SlotOf, topology: Topology) -> Plan[list[RoutedGroup], Answer]:
    slots: dict[int, list[int]] = {}
    for index, hit in enumerate(group.hits):
        slots.setdefault(slot_of(hit.key), []).append(index)
    try:
        if len(slots) == 1:
            return (yield from follow(RoutedGroup(group, next(iter(slots))), topology))
        return (yield from _judge_apart(group, list(slots.values()), slot_of, topology))
    except _KeysApart:
        return (yield from _judge_apart(group, [[index] for index in range(len(group.hits))], slot_of, topology))


class _KeysApart(Exception):
    """The slot is being moved, and the keys of a group are at both ends."""


def follow(routed: RoutedGroup, topology: Topology) -> Plan[list[RoutedGroup], Answer]:
    """Ask for a group wherever its slot has gone."""
    store = ""
    for pause_ms in _RETURN_PAUSES_MS if routed.group.action == "give_back" else _PAUSES_MS:
        routed = routed._replace(at=None if pause_ms else routed.at, pause_ms=pause_ms)  # it may be out of date by then
        answer: Answer
        (answer,) = yield [routed]
        if not isinstance(answer, Redirect):
            return answer
        if answer.address is not None and not answer.is_asking:
            topology.moved(routed.slot, answer.address)
        elif answer.address is None and len(routed.group.hits) > 1 and routed.group.once is None:
            if isinstance(answer, Removed):  # of the other keys, some may have been written
                return StoreUnavailable(answer.store, "the slot is being moved, and one of its keys was just removed")
            raise _KeysApart
        routed = routed._replace(at=None if answer.address is None else answer)
        store = answer.store
    return StoreUnavailable(store, "the nodes of its cluster point to each other: the slot is being moved")


def follow_all(groups: Sequence[Group], slot_of: SlotOf, topology: Topology) -> Plan[list[RoutedGroup], list[Answer]]:
    """Ask for groups, each of one slot, side by side."""
    return together([follow(RoutedGroup(group, slot_of(group.hits[0].key)), topology) for group in groups])


def _follow_wherever(group: Group, slot_of: SlotOf, topology: Topology) -> Plan[list[RoutedGroup], Answer]:
    """Ask for a group of one slot, each hit by itself where the keys are at both ends of a slot that is being moved: to
    ask for all of a larger group again would have others counted twice.
    """
    try:
        return (yield from follow(RoutedGroup(group, slot_of(group.hits[0].key)), topology))
    except _KeysApart:
        answers = yield from follow_all([group._replace(hits=(hit,)) for hit in group.hits], slot_of, topology)
    known = _Known(group)
    for index, answer in enumerate(answers):
        if isinstance(answer, StoreOutage):
            return answer
        known.add([index], answer)
    return known.decision(all(bool(answer) for answer in answers))


def _judge_apart(
    group: Group, parts: list[list[int]], slot_of: SlotOf, topology: Topology
) -> Plan[list[RoutedGroup], Answer]:
    """Judge a group in parts (each a list of its hits' indices), one after the other."""
    hits = group.hits

    def ask(groups: Sequence[Group]) -> Plan[list[RoutedGroup], list[Answer]]:
        return follow_all(groups, slot_of, topology)

    def part(indices: list[int], action: Action | None = None) -> Group:
        return group._replace(hits=tuple(hits[index] for index in indices), action=action or group.action)

    known = _Known(group)
    if group.action != "spend":
        answers = yield from ask([part(indices) for indices in parts])
        for indices, answer in zip(parts, answers, strict=True):
            if isinstance(answer, StoreOutage):
                return answer
            known.add(indices, answer)
        return known.decision(all(bool(answer) for answer in answers))
    penalties = _Penalties(group, parts)
    parts = sorted(map(penalties.arranged, parts), key=lambda indices: _least_width([hits[index] for index in indices]))
    taken: list[tuple[int, Group]] = []
    """The groups that give back what was taken, each with the index of its hit."""
    later = parts
    try:
        while later:
            indices, *later = later
            (answer,) = yield from ask([part(indices)])
            if isinstance(answer, StoreOutage):
                backs, taken = taken, []  # interrupted from here on, it is not to happen twice
                tell_lost((yield from ask([back for _, back in backs])))
                return answer
            known.add(indices, answer)
            if not answer.allowed:
                break
            given_back = iter(give_back_groups(answer))
            taken += [(index, next(given_back)) for index in indices if takes(hits[index])]
        else:
            return known.decision(True)
    except GeneratorExit:  # dropped: nobody is there to send what we would ask
        raise
    except BaseException:
        tell_lost((yield from ask([back for _, back in taken])))
        raise
    # What is left of those that were taken, what those say that were not asked, and what penalties count.
    counts = penalties.counts(indices, answer)
    follow_ups = [
        *(([index], back) for index, back in taken),
        *((indices, part(indices, "peek")) for indices in later),
        *(([index], part([index], "take")) for index in counts),
    ]
    answers = yield from together([_follow_wherever(asked, slot_of, topology) for _, asked in follow_ups])
    tell_lost(answers[: len(taken)])
    for (indices, _), answer in zip(follow_ups, answers, strict=True):
        if isinstance(answer, Decision):
            known.add(indices, answer)
    return known.decision(False)


def _least_width(hits: Sequence[Hit]) -> Fraction:
    """The width of the narrowest of some limits. Penalties alone come first: who is blocked is to take nothing."""
    return min([_width(hit) for hit in hits if not isinstance(hit.limit, Penalty)], default=Fraction())


def _width(hit: Hit) -> Fraction:
    """The rate of a limit, in tokens per microsecond."""
    return Fraction(hit.limit.rate, hit.limit.period_us)


class _Penalties:
    """The penalties of a group that is judged in parts. One that lies with all that it watches counts there; the
    others are *apart*.
    """

    def __init__(self, group: Group, parts: list[list[int]]) -> None:
        self._hits = group.hits
        self._watched: dict[int, list[int]] = {}
        """The penalties that are apart, and count, with what each watches."""
        self._together: set[int] = set()
        part_of = {index: number for number, indices in enumerate(parts) for index in indices}
        watched: list[int] = []
        for index, hit in enumerate(group.hits):
            if not isinstance(hit.limit, Penalty):
                watched.append(index)
                continue
            if {part_of[one] for one in watched} == {part_of[index]}:
                self._together.update((*watched, index))
            elif hit.cost > 0:
                self._watched[index] = watched
            watched = []

    def arranged(self, indices: list[int]) -> list[int]:
        """The hits of a part in such an order that none is watched by a penalty that is not its own."""
        return sorted(indices, key=lambda index: 1 if index in self._together else self._rank_apart(index))

    def _rank_apart(self, index: int) -> int:
        return 0 if isinstance(self._hits[index].limit, Penalty) else 2

    def counts(self, indices: list[int], denied: Decision) -> list[int]:
        """Those that are apart, and have to count what a part denied. What a block denies counts nowhere."""
        told = zip(indices, denied.group.hits, denied.facts, strict=True)
        denying = {
            index for index, hit, facts in told if hit.limit.retry_after_us(facts, denied.now_us, hit.needed) > 0
        }
        if any(isinstance(self._hits[index].limit, Penalty) for index in denying):
            return []
        return [index for index, watched in self._watched.items() if not denying.isdisjoint(watched)]


class _Known:
    """The answers to the parts of a group, so far."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._facts: dict[int, tuple[tuple[int, ...], int]] = {}

    def add(self, indices: list[int], answer: Decision) -> None:
        for index, facts in zip(indices, answer.facts, strict=True):
            self._facts[index] = facts, answer.now_us

    def decision(self, allowed: bool) -> Decision:
        """The decision on the hits of which something is known."""
        order = sorted(self._facts)
        group = self._group._replace(hits=tuple(self._group.hits[index] for index in order))
        facts, instants_us = zip(*(self._facts[index] for index in order), strict=True)
        return Decision(group, max(instants_us), allowed, facts, instants_us=instants_us)

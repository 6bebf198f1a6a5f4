"""What is known of a cluster: learnt from whoever tells, corrected by redirections, asked for again in doubt."""

from __future__ import annotations

from typing import Any, Final

import pytest

from headgate.drive import drive
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.keys import SLOTS
from headgate.plans.topology import Address, TimeIsUp, Topology

ONE: Final = Address("one", 1)
TWO: Final = Address("two", 2)
THREE: Final = Address("three", 3)
LAST: Final = SLOTS - 1

Reply = list[Any]


def node(address: Address) -> Reply:
    """A node as `CLUSTER SLOTS` tells it."""
    return [address.host.encode(), address.port, b"its id", []]


def halves(first: Address = ONE, second: Address = TWO, *replicas: Address) -> Reply:
    """What is told of a cluster of two nodes."""
    return [[0, 8191, node(first)], [8192, LAST, node(second), *map(node, replicas)]]


class Asking:
    """Answers the questions of a plan, and remembers who was asked."""

    def __init__(self, replies: dict[Address, Any]) -> None:
        self.replies = replies
        self.asked: list[Address] = []

    def __call__(self, address: Address) -> Any:
        self.asked.append(address)
        reply = self.replies.get(address, StoreTimeout(str(address), "no answer"))
        if isinstance(reply, BaseException) and not isinstance(reply, StoreOutage):
            raise reply
        return reply if isinstance(reply, (StoreOutage, TimeIsUp)) else [reply]


def learn(topology: Topology, replies: dict[Address, Any]) -> list[Address]:
    """Learn it, and return who was asked."""
    asking = Asking(replies)
    drive(topology.learning("cluster"), asking)
    return asking.asked


def test_at_first_nothing_is_known_but_whom_to_ask() -> None:
    topology = Topology([ONE, TWO])
    assert topology.is_doubtful
    assert topology.nodes == frozenset()
    assert topology.owner(0) is topology.owner(LAST) is None


def test_the_first_that_tells_is_believed() -> None:
    topology = Topology([ONE, TWO, THREE])
    assert learn(topology, {TWO: halves(), THREE: halves(THREE)}) == [ONE, TWO]
    assert [topology.owner(slot) for slot in (0, 8191, 8192, LAST)] == [ONE, ONE, TWO, TWO]
    assert topology.nodes == {ONE, TWO}
    assert not topology.is_doubtful


def test_a_seed_is_asked_once() -> None:
    topology = Topology([ONE, TWO, ONE])
    asking = Asking({})
    with pytest.raises(StoreTimeout):
        drive(topology.learning("cluster"), asking)
    assert asking.asked == [ONE, TWO]


def test_slots_that_nobody_serves_have_no_owner() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: [[5, 5, node(TWO)]]})
    assert [topology.owner(slot) for slot in (4, 5, 6)] == [None, TWO, None]


def test_what_was_known_before_is_replaced_as_a_whole() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: halves()})
    learn(topology, {ONE: [[0, 10, node(THREE)]]})
    assert topology.owner(LAST) is None
    assert topology.nodes == {THREE}


@pytest.mark.parametrize("host", [b"", None])
def test_a_node_without_a_host_is_where_the_one_is_that_told(host: bytes | None) -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: [[0, LAST, [host, 7000, b"id"]]]})
    assert topology.owner(0) == Address("one", 7000)


def test_a_node_whose_host_is_not_known_is_none() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: [[0, 0, [b"?", 7000]], [1, 1, node(TWO), [b"?", 7001]]]})
    assert [topology.owner(slot) for slot in (0, 1)] == [None, TWO]
    assert topology.nodes == {TWO}


def test_addresses_are_those_by_which_we_can_reach_the_nodes() -> None:
    topology = Topology([ONE], lambda address: (f"by-way-of-{address.host}", address.port + 1000))
    learn(topology, {ONE: [[0, LAST, node(TWO), [b"", 3]]]})
    assert topology.owner(0) == Address("by-way-of-two", 1002)
    assert topology.told("", 5, ONE) == Address("by-way-of-one", 1005)


# Who is asked


def test_who_told_last_is_asked_first_then_those_that_serve_then_replicas_then_seeds() -> None:
    topology = Topology([ONE, Address("seed", 9)])
    learn(topology, {Address("seed", 9): halves(ONE, TWO, THREE)})
    asking = Asking({})
    with pytest.raises(StoreTimeout):
        drive(topology.learning("cluster"), asking)
    assert asking.asked == [Address("seed", 9), ONE, TWO, THREE]


def test_who_failed_is_asked_last() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: halves(ONE, TWO, THREE)})
    topology.failed(ONE)
    assert topology.is_doubtful
    assert learn(topology, {TWO: halves(TWO, THREE)}) == [TWO]
    assert topology.owner(0) == TWO


def test_who_used_up_the_time_to_ask_is_asked_last_the_next_time() -> None:
    topology = Topology([ONE, TWO])
    with pytest.raises(StoreTimeout, match="one"):
        learn(topology, {TWO: TimeIsUp()})
    assert topology.is_doubtful
    assert learn(topology, {TWO: halves()}) == [TWO]
    assert not topology.is_doubtful


def test_the_only_one_there_is_is_asked_though_it_failed() -> None:
    topology = Topology([ONE])
    topology.failed(ONE)
    assert learn(topology, {ONE: halves()}) == [ONE]


def test_a_stranger_that_failed_is_asked_last() -> None:
    topology = Topology([ONE])
    topology.failed(TWO)
    assert learn(topology, {TWO: halves()}) == [ONE, TWO]


def test_the_seeds_are_asked_when_all_that_were_known_are_gone() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: halves(TWO, THREE)})
    for gone in (ONE, TWO, THREE):
        topology.failed(gone)
    assert learn(topology, {ONE: halves()}) == [ONE]


# Doubts


def test_a_redirection_corrects_a_slot_and_makes_the_rest_doubtful() -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: halves()})
    topology.moved(7, THREE)
    assert (topology.owner(7), topology.owner(8)) == (THREE, ONE)
    assert topology.is_doubtful


def test_who_comes_while_it_is_learnt_goes_on_with_what_is_known() -> None:
    topology = Topology([ONE])
    plan = topology.learning("cluster")
    next(plan)
    assert not topology.is_doubtful


def test_a_doubt_that_comes_up_while_it_is_learnt_remains() -> None:
    topology = Topology([ONE])
    plan = topology.learning("cluster")
    next(plan)
    topology.moved(7, THREE)
    with pytest.raises(StopIteration):
        plan.send([halves()])
    assert topology.is_doubtful


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, ValueError])
def test_what_interrupts_the_learning_leaves_it_doubtful(error: type[BaseException]) -> None:
    topology = Topology([ONE])
    learn(topology, {ONE: halves()})
    topology.is_doubtful = True
    plan = topology.learning("cluster")
    next(plan)
    with pytest.raises(error):
        plan.throw(error)
    assert topology.is_doubtful
    assert topology.owner(0) == ONE


def test_when_nobody_tells_the_last_outage_is_raised_and_what_was_known_holds() -> None:
    topology = Topology([ONE, TWO])
    learn(topology, {ONE: halves()})
    with pytest.raises(StoreUnavailable, match="two is gone"):
        learn(topology, {TWO: StoreUnavailable("two", "two is gone")})
    assert topology.is_doubtful
    assert topology.owner(0) == ONE
    assert topology.nodes == {ONE, TWO}


def test_without_anybody_to_ask_that_is_said() -> None:
    with pytest.raises(StoreUnavailable, match="store cluster: no node of the cluster is known"):
        learn(Topology([]), {})


NO_ANSWERS: Final[dict[str, Any]] = {
    "nothing": None,
    "a number": 5,
    "words": b"OK",
    "no lists": [1, 2],
    "no node": [[0, 5]],
    "an empty node": [[0, 5, []]],
    "a node without a port": [[0, 5, [b"host"]]],
    "a host that is no text": [[0, 5, [7, 7]]],
    "a host that is no UTF-8": [[0, 5, [b"\xff", 7]]],
    "a port that is no number": [[0, 5, [b"host", b"port"]]],
    "slots that are no numbers": [[b"a", b"b", [b"host", 7]]],
    "slots that there are not": [[0, SLOTS, [b"host", 7]]],
    "slots below nothing": [[-1, 3, [b"host", 7]]],
}


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_an_answer_that_is_not_understood_is_passed_over(what: str) -> None:
    topology = Topology([ONE, TWO])
    assert learn(topology, {ONE: NO_ANSWERS[what], TWO: halves()}) == [ONE, TWO]
    assert topology.owner(0) == ONE
    alone = Topology([ONE])
    with pytest.raises(StoreUnavailable, match="redis://one:1: its answer to CLUSTER SLOTS is not understood"):
        learn(alone, {ONE: NO_ANSWERS[what]})
    assert alone.is_doubtful
    assert alone.owner(0) is None


@pytest.mark.parametrize("reply", [[], [[0, LAST, [b"?", 7000]]]], ids=["no slots", "no known host"])
def test_a_node_that_knows_of_no_slots_is_passed_over(reply: Reply) -> None:
    topology = Topology([ONE, TWO])
    assert learn(topology, {ONE: reply, TWO: halves()}) == [ONE, TWO]
    alone = Topology([ONE])
    with pytest.raises(StoreUnavailable, match="no node of its cluster serves any slot yet"):
        learn(alone, {ONE: reply})
    assert alone.is_doubtful


def test_an_address_is_written_as_in_urls() -> None:
    assert str(Address("node.example", 7000)) == "node.example:7000"
    assert str(Address("::1", 7000)) == "[::1]:7000"

"""What a call has to give back, and cannot within its deadline: it goes on after the call, or its loss is logged."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Group, Hit
from headgate.limits import Limit, TokenBucket
from headgate.plans.cluster import Redirect, RoutedGroup
from headgate.plans.groups import give_back_groups
from headgate.plans.lost import GoesOn
from headgate.plans.topology import Address
from headgate.runtime import daemons
from headgate.stores.remote import Cluster, Endpoint, FastPath, LoopConnection, Terms
from headgate.stores.remote import store as remote_store
from headgate.stores.remote.deadline import Deadline
from headgate.stores.remote.learning import Learning
from headgate.stores.remote.returning import GIVE_BACK_S, RETURNING_S, Returns
from tests.faults.workers import PATIENT
from tests.plans.fake_cluster import NODES, FakeCluster, slot_of
from tests.servers import eventually, soon
from tests.stores.test_remote import Connection, Far, FarStore

LIMIT = TokenBucket(10, per=60)
TIMEOUT_S = 0.25
LOST = "headgate: could not give back what was taken for nobody: "


def hit(key: str, cost: int = 1) -> Hit:
    return Hit(LIMIT, key, "limit", cost)


class Scene:
    """A cluster whose nodes answer from memory, asked through a clock that the pauses of the caller's thread move, and
    nothing else. Other threads pause until the gate opens.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.fake = FakeCluster()
        self.timeout_s = timeout_s
        self.now_s = 1_000.0
        self.caller = threading.get_ident()
        self.pauses_s: list[float] = []
        self.gate = threading.Event()
        self.are_pointing = False
        """Do the nodes point to each other?"""
        self.instead: Callable[[Address, Group], Answer | None] = lambda *_: None
        """What a node answers in place of the truth."""
        self.returned_by: list[int] = []
        """The threads in which something was given back."""
        self.cluster = Cluster(
            "cluster", self.fake.topology, "p", timeout_s, self._node, clock_s=lambda: self.now_s, sleep=self._sleep
        )
        self.cluster.slot_of = slot_of
        self.fake.topology.is_doubtful = False
        self.fake.topology.nodes = frozenset(NODES)

    def _node(self, cluster: Cluster, address: Address, is_asking: bool) -> Endpoint:
        return Node(self, address, is_asking)

    def _sleep(self, seconds: float) -> None:
        if threading.get_ident() == self.caller:
            self.pauses_s.append(seconds)
            self.now_s += seconds
        else:
            self.gate.wait(PATIENT)

    def answer(self, address: Address, is_asking: bool, group: Group) -> Answer:
        if self.are_pointing:
            return Redirect(str(address), NODES[(address.port) % len(NODES)])
        told = self.instead(address, group)
        if told is not None:
            return told
        if group.action == "give_back":
            self.returned_by.append(threading.get_ident())
        at = Redirect("", address, is_asking=is_asking)
        return self.fake.answer(RoutedGroup(group, slot_of(group.hits[0].key), at))

    def take(self, key: str) -> list[Group]:
        """Take something, and return what gives it back."""
        (decision,) = self.cluster.decide([Group((hit(key),))])
        assert isinstance(decision, Decision)
        return give_back_groups(decision)

    def is_given_back(self) -> bool:
        return not self.fake.taken


class Node(Endpoint):
    """A node of a scene."""

    def __init__(self, scene: Scene, address: Address, is_asking: bool) -> None:
        super().__init__(f"node {address.port}", Terms(timeout=scene.timeout_s, remember_denials=0), scene.cluster)
        self._scene = scene
        self._place = address, is_asking

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        return [self._scene.answer(*self._place, group) for group in groups]

    async def answer_async(self, groups: Sequence[Group]) -> list[Answer]:
        return self.answer(groups)

    def open_in_loop(self) -> LoopConnection:
        return Connection()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.gate.set()
    eventually(lambda: not scene.cluster._returns._daemon.is_alive, "the thread has ended")


# While a slot moves


def test_a_thread_pauses_within_its_deadline_and_what_is_left_goes_on_after_the_call(scene: Scene) -> None:
    backs = scene.take("a")
    scene.are_pointing = True
    assert [type(answer) for answer in scene.cluster.decide(backs)] == [GoesOn]
    assert 0 < sum(scene.pauses_s) <= TIMEOUT_S - GIVE_BACK_S
    assert not scene.is_given_back()
    scene.are_pointing = False
    scene.gate.set()
    eventually(scene.is_given_back, "it is given back after the call")
    assert scene.caller not in scene.returned_by


def test_what_can_be_given_back_in_time_is_within_the_call(scene: Scene) -> None:
    backs = scene.take("a")
    asked = itertools.count()

    def instead(address: Address, group: Group) -> Answer | None:
        return Redirect("", NODES[1 if address == NODES[0] else 0]) if next(asked) < 9 else None

    scene.instead = instead
    scene.fake.move(0, NODES[1])
    (answer,) = scene.cluster.decide(backs)
    assert isinstance(answer, Decision)
    assert scene.is_given_back()
    assert scene.returned_by == [scene.caller]
    assert scene.pauses_s


def test_a_group_that_is_denied_is_told_so_while_what_it_took_goes_on_being_given_back(scene: Scene) -> None:
    scene.fake.fill(hit("b"))

    def instead(address: Address, group: Group) -> Answer | None:
        scene.are_pointing = group.hits[0].key == "b"  # from its answer on
        return scene.fake.answer(RoutedGroup(group, 1)) if scene.are_pointing else None

    scene.instead = instead
    (answer,) = scene.cluster.decide([Group((hit("a"), hit("b")))])
    assert isinstance(answer, Decision)
    assert (answer.allowed, answer.key) == (False, "b")
    assert sum(scene.pauses_s) <= TIMEOUT_S
    scene.instead = lambda *_: None
    scene.are_pointing = False
    scene.gate.set()
    eventually(scene.is_given_back, "it is given back after the call")


def test_after_an_outage_that_took_all_the_time_it_is_given_back_by_another_thread(scene: Scene) -> None:
    def instead(address: Address, group: Group) -> Answer | None:
        if group.hits[0].key == "b":
            scene.now_s += TIMEOUT_S
            return StoreTimeout("node 2", "late")
        return None

    scene.instead = instead
    (answer,) = scene.cluster.decide([Group((hit("a"), hit("b")))])
    assert isinstance(answer, StoreTimeout)
    eventually(scene.is_given_back, "it is given back")
    assert scene.returned_by
    assert scene.caller not in scene.returned_by


def test_nodes_that_hang_one_after_the_other_have_one_deadline_to_take_back(scene: Scene) -> None:
    """The first that is asked to take back uses up the time: the others are not asked within the call."""
    backs = [*scene.take("a"), *scene.take("b"), *scene.take("c")]

    def instead(address: Address, group: Group) -> Answer | None:
        if threading.get_ident() != scene.caller:
            return None
        scene.now_s += TIMEOUT_S
        return StoreTimeout("node", "late")

    scene.instead = instead
    answers = scene.cluster.decide(backs)
    assert scene.now_s == 1_000 + TIMEOUT_S
    assert isinstance(answers[0], StoreTimeout)
    assert not isinstance(answers[0], GoesOn)
    eventually(lambda: {place[0] for place, _ in scene.fake.taken} == {"a"}, "the other two are given back")


def test_what_is_still_not_given_back_after_that_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    backs = scene.take("a")
    scene.are_pointing = True
    scene.cluster.decide(backs)
    scene.gate.set()
    eventually(lambda: caplog.records, "it is logged")
    assert [record.getMessage().startswith(LOST) for record in caplog.records] == [True]


async def test_a_task_waits_within_its_deadline_and_what_is_left_goes_on_after_the_call() -> None:
    scene = Scene(timeout_s=0.02)
    backs = scene.take("a")
    scene.are_pointing = True
    with pytest.raises(GoesOn):
        await scene.cluster.decide_async(backs)
    assert not scene.is_given_back()
    scene.are_pointing = False

    async def is_given_back() -> bool:
        return scene.is_given_back()

    await soon(is_given_back, "it is given back after the call")


def test_what_an_event_loop_had_no_time_to_give_back_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(timeout_s=0.02)
    backs = scene.take("a")
    scene.are_pointing = True
    with pytest.raises(GoesOn):
        asyncio.run(scene.cluster.decide_async(backs))
    assert [record.getMessage() for record in caplog.records if "event loop ended" in record.getMessage()]


# The thread


def test_groups_that_come_meanwhile_go_on_together() -> None:
    asked: list[list[str]] = []
    gate, is_asked = threading.Event(), threading.Event()

    def give_back(groups: Sequence[Group], seconds: float) -> list[Answer]:
        asked.append([group.hits[0].key for group in groups])
        assert seconds == RETURNING_S
        is_asked.set()
        gate.wait(PATIENT)
        return [StoreUnavailable("node", group.hits[0].key) for group in groups]

    returns = Returns(give_back)
    assert returns.add([Group((hit("a"),))], 0) is None
    assert is_asked.wait(PATIENT)
    assert returns.add([Group((hit("b"),))], 0) is None
    assert returns.add([Group((hit("c"),))], 0) is None
    gate.set()
    answers = returns.add([Group((hit("d"),))], PATIENT)
    assert answers is not None
    (answer,) = answers
    assert isinstance(answer, StoreOutage)
    assert answer.problem == "d"
    eventually(lambda: [*itertools.chain(*asked)] == ["a", "b", "c", "d"], "all are asked for, once")
    assert asked[:2] in ([["a"], ["b", "c"]], [["a"], ["b", "c", "d"]])


def test_where_there_can_be_no_thread_a_call_gives_back_itself_for_as_long_as_it_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, float]] = []

    def give_back(groups: Sequence[Group], seconds: float) -> list[Answer]:
        asked.append((threading.get_ident(), seconds))
        raise StoreUnavailable("node", "gone")

    monkeypatch.setattr(daemons, "_ending", ["the interpreter"])
    answers = Returns(give_back).add([Group((hit("a"),))], 0.02)
    assert answers is not None
    (answer,) = answers
    assert isinstance(answer, StoreUnavailable)
    assert asked == [(threading.get_ident(), 0.02)]


def test_a_forked_process_leaves_it_to_its_parent() -> None:
    gate = threading.Event()
    asked: list[str] = []

    def give_back(groups: Sequence[Group], seconds: float) -> list[Answer]:
        asked.extend(group.hits[0].key for group in groups)
        gate.wait(PATIENT)
        return []

    returns = Returns(give_back)
    for key in "ab":
        assert returns.add([Group((hit(key),))], 0) is None
    eventually(lambda: asked, "the first is asked for")
    returns.begin()  # as in the child
    gate.set()
    assert not returns._waiting


# What is left of a deadline


def test_who_asks_again_has_what_is_left() -> None:
    now_s = 50.0
    server = Far(Terms(timeout=TIMEOUT_S))
    left: list[float | None] = []

    def decide(groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        left.append(left_s)
        return []

    server.decide = decide  # type: ignore[method-assign]  # to see what it is given
    deadline = Deadline(TIMEOUT_S, lambda: now_s)
    spend, back = [Group((hit("a"),))], [Group((hit("a"),), 0, "give_back")]
    deadline.decide(server, spend)
    now_s += 0.15
    deadline.decide(server, spend)
    deadline.decide(server, back)
    now_s += 0.09
    deadline.decide(server, back)
    now_s += 0.02
    deadline.decide(server, back)
    assert left == [None, *map(pytest.approx, (0.1, 0.1, GIVE_BACK_S, GIVE_BACK_S - 0.01))]
    assert deadline.grace_s() == pytest.approx(GIVE_BACK_S - 0.01)
    with pytest.raises(StoreTimeout):
        deadline.decide(server, spend)
    now_s += 1
    with pytest.raises(StoreTimeout):
        deadline.decide(server, back)
    assert deadline.grace_s() == 0


class Known:
    """What is to be learnt, from one place."""

    question = b"who?", 1
    is_doubtful = True
    nodes: frozenset[Address] = frozenset()

    def learning(self, name: str) -> Any:
        yield NODES[0]
        raise StoreUnavailable(name, "not told")


def test_who_has_to_learn_first_does_so_in_what_is_left_and_waits_no_longer_for_whoever_learns() -> None:
    left: list[float] = []
    server = Far(Terms(timeout=PATIENT))

    def replies_to(request: bytes, count: int, left_s: float) -> StoreOutage:
        left.append(left_s)
        return StoreUnavailable("far", "no")

    server.replies_to = replies_to  # type: ignore[method-assign]  # to see what it is given
    learning = Learning("all", PATIENT, Known(), lambda _: server, lambda: None)
    with learning._lock:
        waiting = threading.Thread(target=learning.learn, args=(0.001,))
        waiting.start()
        waiting.join(PATIENT)
        assert not waiting.is_alive()
    assert left == []
    learning.learn(1.0)
    assert len(left) == 1
    assert 0 < left[0] <= 1.0


class Quick(FarStore):
    """A store with a fast path, of which nothing comes."""

    def fast_path(self, limit: Limit, name: str) -> FastPath | None:
        return (lambda key, cost: (key, cost)), (lambda reply, *_: reply)


@pytest.mark.parametrize(("took_s", "left"), [(0.001, None), (0.2, [TIMEOUT_S - 0.2]), (0.3, [0.0])])
def test_what_the_fast_path_took_in_vain_is_taken_from_the_deadline(
    monkeypatch: pytest.MonkeyPatch, took_s: float, left: list[float] | None
) -> None:
    store = Quick(timeout=TIMEOUT_S)
    given: list[float | None] = []

    def decide(groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        given.append(left_s)
        return list(store.server.memory.decide(groups))

    store.server.decide = decide  # type: ignore[method-assign]  # to see what it is given
    store.server.call = lambda *_: None  # type: ignore[method-assign]  # as where a script is missing
    instants = iter((10.0, 10.0 + took_s))
    monkeypatch.setattr(remote_store, "monotonic", lambda: next(instants))
    answer = store.single(LIMIT, "limit")("k", 1)
    assert (answer is None) == (left is None)
    assert given == ([] if left is None else list(map(pytest.approx, left)))

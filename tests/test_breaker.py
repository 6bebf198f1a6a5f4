"""The breaker by itself: beside a simple model, where threads meet in it, and whatever strikes within."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate import InvalidUse, ManualClock, breaker
from headgate.breaker import DEFAULT, Breaker, Circuit, State
from headgate.observer import BreakerState
from tests.striking import Struck, code_of, each_point, strike

OPEN_US, PROBE_US = 1_000_000, 400_000


class Watched:
    """A circuit by a clock of the test's, and the changes that it told."""

    def __init__(self, option: Any = Breaker(failures=3, open_for=1)) -> None:  # noqa: B008  # it is frozen
        self.clock = ManualClock()
        self.told: list[tuple[BreakerState, BreakerState]] = []
        self.circuit = Circuit(
            option, probe_us=PROBE_US, clock=self.clock, changed=lambda *change: self.told.append(change)
        )

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.circuit.failed(self.circuit.admit())

    def is_admitted(self) -> bool:
        return self.circuit.admit() is not None


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    watched = Watched()
    for _ in range(5):
        watched.fail(2)
        watched.circuit.succeeded()
    assert watched.is_admitted()
    assert watched.told == []
    watched.fail(3)
    assert not watched.is_admitted()
    assert watched.told == [("closed", "open")]
    assert watched.circuit.opens_in_us() == OPEN_US


def test_one_caller_probes_and_its_success_closes_it() -> None:
    watched = Watched()
    watched.fail(3)
    watched.clock.advance(seconds=1)
    assert [watched.is_admitted() for _ in range(3)] == [True, False, False]
    watched.circuit.succeeded()
    assert watched.is_admitted()
    assert watched.told == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
    watched.fail(2)
    assert watched.is_admitted()


def test_a_probe_that_fails_opens_it_anew() -> None:
    watched = Watched()
    watched.fail(3)
    watched.clock.advance(seconds=1)
    watched.fail(1)
    assert not watched.is_admitted()
    watched.clock.advance(microseconds=OPEN_US - 1)
    assert not watched.is_admitted()
    watched.clock.advance(microseconds=1)
    assert watched.is_admitted()


def test_the_next_may_probe_at_once_after_one_who_gave_up() -> None:
    watched = Watched()
    watched.fail(3)
    watched.clock.advance(seconds=1)
    watched.circuit.abandoned(watched.circuit.admit())
    assert [watched.is_admitted() for _ in range(2)] == [True, False]


def test_a_probe_that_is_never_heard_of_again_blocks_nobody_for_ever() -> None:
    watched = Watched()
    watched.fail(3)
    watched.clock.advance(seconds=1)
    lost = watched.circuit.admit()
    watched.clock.advance(microseconds=PROBE_US - 1)
    assert not watched.is_admitted()
    watched.clock.advance(microseconds=1)
    assert [watched.is_admitted() for _ in range(2)] == [True, False]
    watched.circuit.failed(lost)  # so late, it says nothing of the server as it is now
    assert watched.circuit.state.name == "half-open"


def test_who_asked_before_it_opened_does_not_keep_it_open() -> None:
    watched = Watched()
    early = [watched.circuit.admit() for _ in range(9)]
    for asked in early:
        watched.circuit.failed(asked)
        watched.clock.advance(microseconds=1)
    assert watched.circuit.opens_in_us() == OPEN_US - 7
    watched.circuit.succeeded()  # of whoever else asked: the server does answer
    assert watched.is_admitted()


def test_switched_off_it_never_opens() -> None:
    watched = Watched(False)
    watched.fail(10_000)
    assert watched.is_admitted()
    assert watched.told == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"failures": 0}, "a breaker's failures is an integer of at least 1, not 0"),
        ({"failures": True}, "a breaker's failures is an integer of at least 1, not True"),
        ({"failures": 2.0}, "a breaker's failures is an integer of at least 1, not 2.0"),
        ({"open_for": 0}, "a breaker's open_for is a number of seconds above 0 and up to 3600, not 0"),
        ({"open_for": "1"}, "a breaker's open_for is a number of seconds above 0 and up to 3600, not '1'"),
        ({"open_for": float("nan")}, "a breaker's open_for is a number of seconds above 0 and up to 3600, not nan"),
        ({"open_for": float("inf")}, "a breaker's open_for is a number of seconds above 0 and up to 3600, not inf"),
    ],
)
def test_a_breaker_that_cannot_be_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidUse) as caught:
        Breaker(**options)
    assert str(caught.value) == complaint


def test_breakers_are_values() -> None:
    assert Breaker() == DEFAULT == pickle.loads(pickle.dumps(DEFAULT))
    assert len({Breaker(), DEFAULT, Breaker(failures=2)}) == 2


def test_a_forked_process_begins_closed() -> None:
    watched = Watched()
    watched.fail(3)
    child = os.fork()
    if child == 0:
        os._exit(0 if watched.is_admitted() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not watched.is_admitted()


def test_of_many_threads_one_opens_it_and_one_probes() -> None:
    with ThreadPoolExecutor(16) as threads:
        for _ in range(50):
            watched = Watched()
            list(threads.map(lambda _, watched=watched: watched.circuit.failed(), range(64)))
            assert watched.told == [("closed", "open")]
            watched.clock.advance(seconds=1)
            admitted = list(threads.map(lambda _, watched=watched: watched.is_admitted(), range(64)))
            assert sum(admitted) == 1
            list(threads.map(lambda _, watched=watched: watched.circuit.succeeded(), range(64)))
            assert watched.told[1:] == [("open", "half-open"), ("half-open", "closed")]


def states_after(watched: Watched) -> list[State]:
    return list(watched.circuit.state.next.values())


@pytest.mark.parametrize("inner", ["succeeded", "failed", "admit", "exception"])
@pytest.mark.parametrize("outer", ["succeeded", "failed", "admit", "abandoned"])
@pytest.mark.parametrize("begins", ["about to open", "open", "due", "probed"])
def test_whatever_strikes_within_leaves_one_state_that_works(begins: str, outer: str, inner: str) -> None:
    for point in each_point():
        watched = Watched()
        circuit = watched.circuit
        watched.fail(2 if begins == "about to open" else 3)
        if begins in ("due", "probed"):
            watched.clock.advance(seconds=1)
        probe = circuit.admit() if begins == "probed" else None
        calls: dict[str, Callable[[], object]] = {
            "succeeded": circuit.succeeded,
            "failed": partial(circuit.failed, probe),
            "abandoned": partial(circuit.abandoned, probe),
            "admit": circuit.admit,
            "exception": strike,
        }
        try:
            point.striking(calls[outer], code_of(breaker), calls[inner])
        except Struck:
            assert inner == "exception"
        circuit.opens_in_us()
        assert states_after(watched) == [], point
        watched.clock.advance(microseconds=OPEN_US + PROBE_US)
        assert watched.is_admitted(), point  # whatever was lost
        circuit.succeeded()
        assert circuit.state.is_closed, point


class Beside(RuleBasedStateMachine):
    """A circuit beside a model of a few plain variables."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = Watched()
        self.name: BreakerState = "closed"
        self.failures = 0
        self.until_us = 0
        self.probe: object = None
        self.asked: list[State] = []
        self.changes: list[tuple[str, str]] = []

    def become(self, name: BreakerState, until_us: int = 0) -> None:
        if name != self.name:
            self.changes.append((self.name, name))
        self.name, self.until_us, self.failures = name, until_us, 0

    @rule()
    def admit(self) -> None:
        state = self.watched.circuit.admit()
        now_us = self.watched.clock()
        assert (state is not None) == (self.name == "closed" or now_us >= self.until_us)
        if state is not None:
            self.asked.append(state)
            if self.name != "closed":
                self.become("half-open", now_us + PROBE_US)
                self.probe = state

    @rule(which=st.integers(0, 9))
    def fail(self, which: int) -> None:
        asked = self.asked[-which] if 0 < which <= len(self.asked) else None
        self.watched.circuit.failed(asked)
        if self.name == "closed":
            self.failures += 1
            if self.failures == 3:
                self.become("open", self.watched.clock() + OPEN_US)
        elif self.name == "half-open" and asked is self.probe:
            self.become("open", self.watched.clock() + OPEN_US)

    @rule()
    def succeed(self) -> None:
        self.watched.circuit.succeeded()
        self.become("closed")

    @rule(which=st.integers(0, 3))
    def abandon(self, which: int) -> None:
        asked = self.asked[-which] if 0 < which <= len(self.asked) else None
        self.watched.circuit.abandoned(asked)
        if self.name == "half-open" and asked is self.probe:
            self.become("open", self.watched.clock())

    @rule(microseconds=st.sampled_from([1, PROBE_US - 1, PROBE_US, OPEN_US - 1, OPEN_US]))
    def wait(self, microseconds: int) -> None:
        self.watched.clock.advance(microseconds=microseconds)

    @invariant()
    def both_say_the_same(self) -> None:
        circuit = self.watched.circuit
        assert (circuit.state.name, circuit.state.is_closed) == (self.name, self.name == "closed")
        assert circuit.opens_in_us() == max(0, self.until_us - self.watched.clock())
        assert self.watched.told == self.changes


TestBesideAModel = Beside.TestCase

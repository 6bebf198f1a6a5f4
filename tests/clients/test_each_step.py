"""Whatever step of a request is interrupted: what was not sent costs nothing, and nothing stays held or open."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from headgate import Limiter, ManualClock
from headgate.clients.answers import Answer
from headgate.clients.limits import ClientLimits, Library
from headgate.plans.commands import Call
from headgate.testing import deterministic
from headgate.web.core import run

ANSWERS = [Answer(429, {"Retry-After": "7"}, None), Answer(200, {}, None)]
LIMITS = ["fixed-window 10/hour", "concurrency 2"]


class Interrupted(BaseException):
    """As a cancellation, or what a signal's handler raises."""


class Calls:
    """A client that sends nothing: a 429, then a 200."""

    def __init__(self) -> None:
        self.sent = 0
        self.open: dict[int, Callable[[], Any]] = {}
        """Releases the slots of each response that its caller has."""
        self.unread: set[int] = set()
        """The responses that nobody has closed."""
        library = Library(
            host=lambda _: "vendor",
            is_unsent=lambda _: False,
            can_resend=lambda _: True,
            answer=lambda number: ANSWERS[number - 1],
            discard=self.unread.discard,
            when_closed=self.when_closed,
        )
        self.limits = ClientLimits(Limiter, library, LIMITS, retries=1)

    def send(self) -> int:
        self.sent += 1
        self.unread.add(self.sent)
        return self.sent

    def when_closed(self, number: int, closed: Callable[[], Any]) -> bool:
        self.open[number] = closed
        return True

    def left(self) -> list[int]:
        """The tokens and the slots that are left."""
        decision = self.limits.limiter.peek("vendor", 0)
        told = zip(decision.group.hits, decision.facts, strict=True)
        return [hit.limit.remaining(facts, decision.now_us) for hit, facts in told]


def name_of(command: Call) -> str:
    """The name of the function that is called."""
    name: str = getattr(command.function, "func", command.function).__name__
    return name


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with deterministic() as made:
        yield made


def steps() -> list[str]:
    """The names of the functions that a request's plan calls, in order."""
    calls, names = Calls(), []
    plan = calls.limits.exchange("request", calls.send)
    command = next(plan)
    while True:
        names.append(name_of(command))
        try:
            command = plan.send(command.function(*command.arguments))
        except StopIteration:
            return names


def test_a_request_takes_these_steps(clock: ManualClock) -> None:
    turn = ["acquire", "peek", "__enter__", "send"]
    refused = ["try_acquire", "discard", "_release"]
    early = ["acquire", "peek", "refund", "sleep"]
    assert steps() == ["<lambda>", *turn, *refused, *early, *turn]
    assert len(steps()) == STEPS


STEPS = 16
GOES_ON = ("refund", "discard", "_release")
"""What is begun of these is brought to its end, whoever is cancelled."""


@pytest.mark.parametrize("at", range(STEPS))
def test_an_interruption_leaves_nothing_behind(at: int, clock: ManualClock) -> None:
    calls = Calls()
    plan = calls.limits.exchange("request", calls.send)
    command = next(plan)
    for _ in range(at):
        command = plan.send(command.function(*command.arguments))
    name = name_of(command)
    if name in GOES_ON:
        command.function(*command.arguments)
    with pytest.raises(Interrupted):
        run(interrupted(plan))
    may_have_arrived = calls.sent + (name == "send")
    assert calls.left() == [10 - may_have_arrived, 2]
    assert calls.unread == set()


def interrupted(plan: Generator[Call, Any, Any]) -> Generator[Call, Any, None]:
    """The rest of a plan that is interrupted where it stands."""
    command = plan.throw(Interrupted())
    while True:
        reply = yield command
        command = plan.send(reply)


@pytest.mark.parametrize("at", range(STEPS))
def test_a_plan_that_is_dropped_asks_for_nothing_more(at: int, clock: ManualClock) -> None:
    calls = Calls()
    plan = calls.limits.exchange("request", calls.send)
    command = next(plan)
    for _ in range(at):
        command = plan.send(command.function(*command.arguments))
    plan.close()

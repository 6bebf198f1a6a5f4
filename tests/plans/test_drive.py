"""The two drivers: replies go in, exceptions are thrown in, and what the plan lets out comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headgate.drive import Plan, drive, drive_async

Drive = Callable[[Plan[Any, Any], Callable[[Any], Any]], Any]


def awaited(plan: Plan[Any, Any], send: Callable[[Any], Any]) -> Any:
    async def send_async(command: Any) -> Any:
        return send(command)

    return asyncio.run(drive_async(plan, send_async))


both_ways = pytest.mark.parametrize("run", [drive, awaited])


@both_ways
def test_each_command_is_answered_and_the_result_is_returned(run: Drive) -> None:
    def plan() -> Plan[int, list[int]]:
        first = yield 1
        second = yield first + 1
        return [first, second]

    assert run(plan(), lambda command: command * 10) == [10, 110]


@both_ways
def test_a_plan_without_commands_asks_nothing(run: Drive) -> None:
    def plan() -> Plan[int, str]:
        yield from ()
        return "done"

    def send(command: int) -> None:
        raise AssertionError(command)

    assert run(plan(), send) == "done"


@both_ways
def test_what_sending_raises_is_thrown_into_the_plan(run: Drive) -> None:
    def plan() -> Plan[str, str]:
        try:
            yield "ask"
        except ConnectionError as error:
            return f"caught {error}"
        raise AssertionError

    def send(command: str) -> None:
        raise ConnectionError(command)

    assert run(plan(), send) == "caught ask"


@both_ways
@pytest.mark.parametrize("kind", [ConnectionError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_plan_may_ask_once_more_before_it_lets_an_exception_go_on(run: Drive, kind: type[BaseException]) -> None:
    sent = []

    def plan() -> Plan[str, str]:
        try:
            yield "pause"
        except BaseException:
            yield "give back"
            raise
        raise AssertionError

    def send(command: str) -> None:
        sent.append(command)
        if command == "pause":
            raise kind("interrupted")

    with pytest.raises(kind):
        run(plan(), send)
    assert sent == ["pause", "give back"]


@both_ways
def test_an_exception_that_the_plan_does_not_catch_comes_out_as_it_is(run: Drive) -> None:
    problem = ConnectionError("gone")

    def plan() -> Plan[str, None]:
        yield "ask"

    def send(_: str) -> None:
        raise problem

    with pytest.raises(ConnectionError) as raised:
        run(plan(), send)
    assert raised.value is problem


@both_ways
def test_an_exception_of_the_plans_own_comes_out(run: Drive) -> None:
    def plan() -> Plan[str, None]:
        yield "ask"
        raise ValueError("not to my liking")

    with pytest.raises(ValueError, match="not to my liking"):
        run(plan(), str)


@both_ways
def test_a_failure_while_giving_back_does_not_hide_what_it_was_for(run: Drive) -> None:
    def plan() -> Plan[str, None]:
        try:
            yield "pause"
        except KeyError:
            yield "give back"
            raise

    def send(command: str) -> None:
        raise KeyError(command) if command == "pause" else ConnectionError(command)

    with pytest.raises(ConnectionError) as raised:
        run(plan(), send)
    assert isinstance(raised.value.__context__, KeyError)

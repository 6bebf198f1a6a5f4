"""The drivers: replies go in, exceptions are thrown in, and what the plan lets out comes out. And several plans that
run together as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headgate.drive import Plan, drive, drive_async, drive_by_callback, together

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


def called_back(plan: Plan[Any, Any], send: Callable[[Any], Any]) -> Any:
    """As `drive`, by callback."""
    came: list[Any] = []

    def send_on(command: Any, resume: Callable[[Any], None]) -> None:
        try:
            reply = send(command)
        except Exception as error:
            reply = error
        resume(reply)

    drive_by_callback(plan, send_on, came.append)
    (result,) = came
    if isinstance(result, Exception):
        raise result
    return result


# Together


all_ways = pytest.mark.parametrize("run", [drive, awaited, called_back])

Lists = Plan[list[str], str]


def asks(name: str, *sizes: int) -> Lists:
    """Asks for lists of so many commands, and returns all that it was told."""
    heard = []
    for number, size in enumerate(sizes):
        replies = yield [f"{name}{number}.{index}" for index in range(size)]
        assert len(replies) == size
        heard += replies
    return " ".join(heard)


def loudly(commands: list[str]) -> list[str]:
    return [command.upper() for command in commands]


@all_ways
@pytest.mark.parametrize("sizes", [[], [()], [(1,)], [(0,)], [(2, 0, 3), (), (1,), (1, 2)], [(0, 1), (1, 0)]], ids=repr)
def test_each_of_several_plans_is_told_what_it_would_be_alone(run: Drive, sizes: Sequence[tuple[int, ...]]) -> None:
    alone = [drive(asks(f"{number}:", *own), loudly) for number, own in enumerate(sizes)]
    assert run(together([asks(f"{number}:", *own) for number, own in enumerate(sizes)]), loudly) == alone


@all_ways
def test_what_plans_ask_for_together_goes_in_one_list(run: Drive) -> None:
    lists = []

    def send(commands: list[str]) -> list[str]:
        lists.append(commands)
        return commands

    run(together([asks("a", 1, 2), asks("b", 2), asks("c", 1, 1, 1)]), send)
    assert lists == [["a0.0", "b0.0", "b0.1", "c0.0"], ["a1.0", "a1.1", "c1.0"], ["c2.0"]]


def test_plans_that_ask_nothing_together_ask_nothing() -> None:
    def send(commands: list[str]) -> list[str]:
        raise AssertionError(commands)

    assert drive(together([asks("a"), asks("b")]), send) == ["", ""]
    assert drive(together(list[Lists]()), send) == []


def test_plans_that_run_together_can_be_made_of_such() -> None:
    inner = [together([asks("a", 1, 1), asks("b", 1)]), together([asks("c", 2)])]
    assert drive(together(inner), loudly) == [["A0.0 A1.0", "B0.0"], ["C0.0 C0.1"]]


@all_ways
@pytest.mark.parametrize("count", [1, 3])
def test_what_sending_raises_is_thrown_into_each_that_has_not_ended(run: Drive, count: int) -> None:
    def plan(name: str) -> Lists:
        try:
            yield [name]
        except ConnectionError as error:
            replies = yield [f"{name} after {error}"]
            return f"{replies}"
        raise AssertionError

    sent = []

    def send(commands: list[str]) -> list[str]:
        sent.append(commands)
        if len(sent) == 1:
            raise ConnectionError("it")
        return loudly(commands)

    plans = [plan(str(number)) for number in range(count)]
    assert run(together(plans), send) == [f"['{number} AFTER IT']" for number in range(count)]
    assert len(sent) == 2


@all_ways
def test_what_has_ended_is_not_thrown_into(run: Drive) -> None:
    problem = ConnectionError("gone")
    thrown: list[str] = []

    def plan(name: str, rounds: int) -> Lists:
        for number in range(rounds):
            try:
                yield [f"{name}{number}"]
            except ConnectionError:
                thrown.append(name)
                raise
        return name

    def send(commands: list[str]) -> list[str]:
        if commands == ["b1", "c1"]:
            raise problem
        return commands

    with pytest.raises(ConnectionError) as raised:
        run(together([plan("a", 1), plan("b", 2), plan("c", 3)]), send)
    assert raised.value is problem
    assert thrown == ["b", "c"]


@all_ways
def test_what_one_raises_comes_out_when_the_others_have_ended(run: Drive) -> None:
    ended = []

    def fails(after: int) -> Lists:
        for number in range(after):
            yield [f"{number}"]
        raise ValueError(f"after {after}")

    def goes_on() -> Lists:
        result = yield from asks("a", 1, 1, 1)
        ended.append(result)
        return result

    with pytest.raises(ValueError, match="after 0"):
        run(together([fails(1), goes_on(), fails(0)]), loudly)
    assert ended == ["A0.0 A1.0 A2.0"]


@all_ways
def test_each_may_ask_once_more_before_what_was_thrown_comes_out(run: Drive) -> None:
    def plan(name: str) -> Lists:
        try:
            yield [name]
        except ConnectionError:
            yield [f"give {name} back"]
            raise
        raise AssertionError

    sent = []

    def send(commands: list[str]) -> list[str]:
        sent.append(commands)
        if len(sent) == 1:
            raise ConnectionError("gone")
        return commands

    with pytest.raises(ConnectionError, match="gone"):
        run(together([plan("a"), plan("b")]), send)
    assert sent == [["a", "b"], ["give a back", "give b back"]]


@pytest.mark.parametrize("count", [1, 3])
def test_plans_that_are_dropped_together_are_closed_and_ask_nothing(count: int) -> None:
    closed = []

    def plan(name: str) -> Lists:
        try:
            yield [name]
        except GeneratorExit:
            closed.append(name)
            raise
        raise AssertionError

    dropped = together([plan(str(number)) for number in range(count)])
    next(dropped)
    dropped.close()
    assert closed == [str(number) for number in range(count)]

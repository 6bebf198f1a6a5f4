"""The drivers: what a plan asks for is sent, blocking, awaited or with a callback, and the reply handed back. And what
makes one plan of several.

A plan is a generator that yields commands and receives replies; it does no I/O, reads no clock and starts no
thread. What `send` raises is thrown into the plan, which may yield one more command (to give tokens back, say)
before it lets the exception go on.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar, cast

Result = TypeVar("Result")
Command = TypeVar("Command")

Plan = Generator[Command, Any, Result]
"""A generator that yields commands, receives a reply for each, and returns a result. `Any`: a reply's type follows from
its command."""


def drive(plan: Plan[Command, Result], send: Callable[[Command], Any]) -> Result:
    """Run a plan with a blocking `send`."""
    try:
        command = next(plan)
        while True:
            try:
                reply = send(command)
            except BaseException as error:
                command = plan.throw(error)
            else:
                command = plan.send(reply)
    except StopIteration as done:
        result: Result = done.value
        return result


async def drive_async(plan: Plan[Command, Result], send: Callable[[Command], Awaitable[Any]]) -> Result:
    """Run a plan with an awaited `send`."""
    try:
        command = next(plan)
        while True:
            try:
                reply = await send(command)
            except BaseException as error:
                command = plan.throw(error)
            else:
                command = plan.send(reply)
    except StopIteration as done:
        result: Result = done.value
        return result


def drive_by_callback(
    plan: Plan[Command, Result],
    send: Callable[[Command, Callable[[Any], None]], None],
    done: Callable[[Result | Exception], None],
) -> None:
    """Run a plan with a `send` that returns at once, and calls back with the reply, or with an exception in its
    place. `done` gets the result, or what the plan raises.
    """
    _resume(plan, send, done, None)


def _resume(
    plan: Plan[Command, Result],
    send: Callable[[Command, Callable[[Any], None]], None],
    done: Callable[[Result | Exception], None],
    reply: Any,
) -> None:
    # No closure that would refer to itself: what it holds would stay until the garbage collector comes by.
    try:
        command = plan.throw(reply) if isinstance(reply, Exception) else plan.send(reply)
    except StopIteration as finished:
        done(finished.value)
    except Exception as error:
        done(error)
    else:
        send(command, functools.partial(_resume, plan, send, done))


def together(plans: Sequence[Plan[list[Command], Result]]) -> Plan[list[Command], list[Result]]:
    """Run several plans, each of which asks for lists of commands, side by side: what all of them ask for goes in one
    list, and so on, until the last has ended. A reply is the list of replies to that list.

    What is thrown into this plan is thrown into all that have not ended. What one of them raises is raised when the
    others have ended, too.
    """
    if len(plans) == 1:
        return [(yield from plans[0])]
    results: list[Result | None] = [None] * len(plans)
    asked: dict[int, list[Command]] = {}
    failure: BaseException | None = None

    def step(index: int, resume: Callable[[Any], list[Command]], given: Any) -> None:
        nonlocal failure
        try:
            asked[index] = resume(given)
        except StopIteration as done:
            asked.pop(index, None)
            results[index] = done.value
        except BaseException as error:
            asked.pop(index, None)
            failure = failure or error

    for index, plan in enumerate(plans):
        step(index, plan.send, None)
    while asked:
        try:
            replies = yield [command for commands in asked.values() for command in commands]
        except GeneratorExit:  # dropped: nobody is there to send what they would still ask
            for index in asked:
                plans[index].close()
            raise
        except BaseException as error:
            for index in list(asked):
                step(index, plans[index].throw, error)
            continue
        at = 0
        for index, commands in list(asked.items()):
            step(index, plans[index].send, replies[at : at + len(commands)])
            at += len(commands)
    if failure is not None:
        raise failure
    return cast("list[Result]", results)

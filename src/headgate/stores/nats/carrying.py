"""Plans, carried out over a link: what they ask for in one list goes in one write, and they go on when all of it is
answered, within the reading of the last reply.

This module must not know what a plan is for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from headgate.drive import Plan, drive_by_callback
from headgate.errors import StoreOutage
from headgate.plans.nats import Command, Commit, Pause, Read
from headgate.stores.nats.bucket import Ready
from headgate.stores.nats.library import Reply
from headgate.stores.nats.link import Link, Request
from headgate.stores.nats.requests import Requests

T = TypeVar("T")


class GivenUp(Exception):  # it says what happened, and is no error
    """Thrown into a plan whose result nobody waits for any more."""


class Home(Protocol):
    """Where plans are carried out: a session."""

    @property
    def requests(self) -> Requests:
        """The requests about its bucket."""

    def now_us(self) -> int:
        """The time that decides."""

    def doubt(self, link: Link) -> None:
        """The server does not do what it should."""


class Carrying(Generic[T]):
    """One plan on its way.

    :param until_s: until when, by the event loop's clock, a plan may begin anew.
    :param done: gets the result, or what the plan raised.
    """

    def __init__(
        self,
        home: Home,
        link: Link,
        ready: Ready,
        plan: Plan[list[Command], T],
        done: Callable[[T | Exception], None],
        until_s: float = float("inf"),
    ) -> None:
        self._home = home
        self._link = link
        self._ready = ready
        self._until_s = until_s
        self._resume: Callable[[Any], None] | None = None
        """Goes on with the plan; None while it does."""
        self._commands: list[Command] = []
        self._replies: list[Any] = []
        self._missing = 0
        self._asked: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        drive_by_callback(plan, self._send, done)

    def give_up(self) -> bool:
        """Nobody waits for the result any more. The plan may still give back what it took. Returns whether there is a
        request that was not answered.
        """
        resume, self._resume = self._resume, None
        is_silent = self._missing > 0
        self._link.give_up(self._asked)
        if self._timer is not None:
            self._timer.cancel()
        if resume is not None:
            resume(GivenUp())
        return is_silent

    def _send(self, commands: list[Command], resume: Callable[[Any], None]) -> None:
        self._resume = resume
        self._commands = commands
        self._replies = [None] * len(commands)
        requests = []
        for index, command in enumerate(commands):
            if type(command) is Commit:
                requests.append(Request(self._home.requests.commit(command), partial(self._replied, index)))
            elif type(command) is Read:
                message = self._home.requests.read(command, self._ready)
                requests.append(Request([message], partial(self._replied, index)))
        self._missing = len(requests)
        if requests:
            self._asked = self._link.send(requests)
        else:
            self._pause()

    def _replied(self, index: int, reply: Reply | StoreOutage) -> None:
        self._replies[index] = reply
        self._missing -= 1
        if not self._missing:
            self._asked = []
            self._pause()

    def _pause(self) -> None:
        longest_us = max([one.longest_us for one in self._commands if type(one) is Pause], default=0)
        if longest_us:
            pause_us = random.randint(1, longest_us)  # noqa: S311  # no secret
            self._timer = asyncio.get_running_loop().call_later(pause_us / 1_000_000, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._timer = None
        resume, self._resume = self._resume, None
        if resume is None:  # given up
            return
        told = [self._told(command, reply) for command, reply in zip(self._commands, self._replies, strict=True)]
        for one in told:
            if isinstance(one, StoreOutage) and one.is_of_server:
                self._home.doubt(self._link)
                break
        resume(told)

    def _told(self, command: Command, reply: Any) -> Any:
        if type(command) is Commit:
            return self._home.requests.revisions(reply, len(command.puts))
        if type(command) is Read:
            return self._home.requests.kept(reply)
        if type(command) is Pause:
            return asyncio.get_running_loop().time() < self._until_s
        return self._home.now_us()

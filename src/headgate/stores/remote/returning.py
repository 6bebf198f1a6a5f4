"""Give-backs for which a call has no time: a thread goes on with them when it has returned.

In an event loop, a task does: see `Cluster`. This module must not know how a server is asked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from headgate.decision import Answer
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.lost import tell_lost
from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child

GIVE_BACK_S: Final = 0.03
"""For so long, a call waits beyond its deadline for what it gives back, in all. And with less time than that, no server
is asked to take something back within the call.
"""
RETURNING_S: Final = 0.8
"""For so long, it is gone on with: not longer than a process waits for its threads when it ends."""
MAX_RETURNS: Final = 10_000
"""So many calls may be waiting for the thread. Who comes on top of that gives back itself."""

GiveBack = Callable[[Sequence[Group], float], list[Answer]]
"""Gives groups back, blocking, within so many seconds."""


class _Return:
    """Some groups that are given back, and the call that may still wait for that."""

    __slots__ = ("_fate", "answers", "done", "groups")

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.answers: list[Answer] = []
        self.done = threading.Lock()
        """Held until there are answers."""
        self.done.acquire()
        self._fate: dict[str, str] = {}

    def ends(self, how: str) -> bool:
        """Say that the answers are there, or that the call has gone. Is it the first that is said? Whoever says the
        second sees to what is lost.
        """
        return self._fate.setdefault("ends", how) == how


class Returns:
    """Gives back in a thread, which lives while there is something to. What is lost is logged, where no call waits for
    it any more. No lock: a signal's handler may ask in the middle of a call.
    """

    def __init__(self, give_back: GiveBack) -> None:
        self._give_back = give_back
        self._daemon: Final = Daemon("headgate-returns", self._run)
        self.begin()
        begin_afresh_in_child(self, Returns.begin)

    def begin(self) -> None:
        """Begin afresh: in a forked process, what is to be given back is our parent's to."""
        self._waiting: deque[_Return] = deque()
        self._running: dict[str, object] = {}
        """Which thread is at work, if one is: taken in one step."""

    def add(self, groups: Sequence[Group], wait_s: float) -> list[Answer] | None:
        """Give groups back, and wait for that at most so many seconds. Returns the answers; None if it goes on.

        Where there can be no thread, since the interpreter ends, it goes on for so long and no longer.
        """
        if len(self._waiting) >= MAX_RETURNS:
            return self._ask(groups, wait_s)
        one = _Return(groups)
        self._waiting.append(one)
        if not self._running:
            self._daemon.start()
            if not self._daemon.is_alive:
                with suppress(ValueError):  # it was alive, and has done it
                    self._waiting.remove(one)
                    return self._ask(groups, wait_s)
        if one.done.acquire(timeout=wait_s) or not one.ends("gone"):
            return one.answers
        return None

    def _run(self) -> None:
        mine = object()
        while self._waiting and self._running.setdefault("thread", mine) is mine:
            try:
                while some := self._take_all():
                    self._return(some)
            finally:
                self._running.pop("thread", None)
            # Whoever came just now found a thread at work.

    def _take_all(self) -> list[_Return]:
        some = []
        with suppress(IndexError):
            while True:
                some.append(self._waiting.popleft())
        return some

    def _return(self, some: list[_Return]) -> None:
        answers = self._ask([group for one in some for group in one.groups], RETURNING_S)
        at = 0
        for one in some:
            one.answers = answers[at : at + len(one.groups)]
            at += len(one.groups)
            if not one.ends("answered"):
                tell_lost(one.answers)
            one.done.release()

    def _ask(self, groups: Sequence[Group], seconds: float) -> list[Answer]:
        try:
            return self._give_back(groups, seconds)
        except StoreOutage as outage:
            return [outage] * len(groups)

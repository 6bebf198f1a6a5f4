"""Where the commands of a limiter's plans go: groups to a store, pauses into sleep, holds to whoever renews them.

It is the one place to put something else in a limiter's way, for tests: `replace` reaches the limiters of the process,
those that exist and those that will be made. This module must not know what a limiter is.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from headgate import observer
from headgate.limiter.holds import AsyncRenewer, Renewer, Renews
from headgate.limiter.local import around, around_async
from headgate.stores.contract import Store

T = TypeVar("T")


class Port:
    """The surroundings of a limiter's plans: by default, its store and the time that really passes."""

    is_real = True
    """Is nothing put in the way? If something is, no tokens are drawn ahead of need."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._renewers: dict[type[Renews], Renews] = {}

    def renewer(self) -> Renews:
        """The renewer of slots that are held in blocks of threads."""
        made = self._renewers.get(Renewer)
        return made or self._renewers.setdefault(Renewer, Renewer(around(self.store.decide)))

    def renewer_async(self) -> Renews:
        """The renewer of slots that are held in blocks of tasks."""
        made = self._renewers.get(AsyncRenewer)
        return made or self._renewers.setdefault(AsyncRenewer, AsyncRenewer(around_async(self.store.decide_async)))

    def sleep(self, duration_us: int) -> int:
        """Sleep, and return how long it really took, in microseconds."""
        started_ns = time.monotonic_ns()
        time.sleep(duration_us / 1_000_000)
        return (time.monotonic_ns() - started_ns) // 1_000

    async def sleep_async(self, duration_us: int) -> int:
        """As `sleep`, in an event loop."""
        started_ns = time.monotonic_ns()
        await asyncio.sleep(duration_us / 1_000_000)
        return (time.monotonic_ns() - started_ns) // 1_000


_users: Final[dict[int, tuple[weakref.ref[Any], Callable[[Any], None], object]]] = {}
"""Those that live, by their identities, with what connects each, and what each heeds."""
_replacements: Final[list[Callable[[Store], Port]]] = []
"""Makers of ports to be used in place of the real ones; the last counts."""


def port_for(own: Port) -> Port:
    """The port to be used in place of a limiter's own, which it mostly is."""
    replacements = _replacements[-1:]
    return replacements[0](own.store) if replacements else own


def register(user: T, connect: Callable[[T], None], heeds: object) -> None:
    """Have who uses a port connected anew for as long as that lives: whenever something changes for all, or what it
    `heeds`.
    """
    # One step each, since the callback may run at any line of any thread.
    forget: Callable[[Any], Any] = partial(_users.pop, id(user))
    _users[id(user)] = weakref.ref(user, forget), connect, heeds


def connect_all(changed: object = None) -> None:
    """Connect users anew: those that heed what has changed, or all."""
    for reference, connect, heeds in list(_users.values()):
        if changed is None or heeds is changed:
            user = reference()
            if user is not None:
                connect(user)


def replace(make: Callable[[Store], Port]) -> Callable[[], None]:
    """Put other ports in place of all limiters' own, until what is returned is called."""
    _replacements.append(make)
    connect_all()

    def restore() -> None:
        _replacements.remove(make)
        connect_all()

    return restore


observer.listeners.append(connect_all)

"""One store for all limiters that are made from the same URL with the same options, and so one set of connections.

A store lives for as long as a limiter has a share in it. Its connections are closed when the last of these is closed,
or gone. Nobody waits for anybody here, so that a limiter can be made, closed and swept away at any line of any thread.
This module must not know what a URL means.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol, runtime_checkable

from headgate.runtime.interned import Interned
from headgate.stores import Store

_Loop = Callable[[], asyncio.AbstractEventLoop | None]
"""Leads to an event loop, if that is still there."""


@runtime_checkable
class ShareableStore(Store, Protocol):
    """A store that several limiters may share without knowing of each other: it can close what it opened part by part,
    each as soon as nobody is asking there, and opens it again when it is asked.
    """

    def close_loops(self) -> None:
        """Close what was opened for event loops."""

    async def close_loop(self) -> None:
        """Close what was opened for this event loop."""


class _Shared:
    """A store, and who has a share in it."""

    __slots__ = ("__weakref__", "loops", "numbers", "others", "store")

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self.numbers: Final = itertools.count()
        self.loops: Final[dict[int, _Loop | None]] = {}
        """The shares of those who ask in event loops, each with the one in which it was made; None: in none."""
        self.others: Final[dict[int, None]] = {}
        """The shares of those who block."""


_shared: Final[Interned[Hashable, _Shared]] = Interned()


class Share:
    """The share of one limiter in a store that was made from a URL. One that is dropped counts as closed.

    :param key: equal for those who may share a store; None for who may not.
    :param make: makes the store, if there is none for this key.
    :param asks_in_loops: is it for an asyncio limiter?
    """

    __slots__ = ("_number", "_shared", "store")

    def __init__(self, key: Hashable | None, make: Callable[[], Store], *, asks_in_loops: bool) -> None:
        shared = None if key is None else _shared.get(key)
        if shared is None:
            shared = _Shared(make())
            if key is not None and isinstance(shared.store, ShareableStore):
                shared = _shared.intern(key, shared)
        self._shared: Final = shared
        self.store: Final = shared.store
        self._number: Final = next(shared.numbers)
        if asks_in_loops:
            shared.loops[self._number] = _running_loop()
        else:
            shared.others[self._number] = None

    def close(self) -> None:
        """Give up the share, and close what nobody else needs."""
        shared, store = self._shared, self.store
        was_in_loops = self._give_up()
        if not shared.loops and not shared.others:
            store.close()
        elif was_in_loops and not shared.loops and isinstance(store, ShareableStore):
            store.close_loops()

    async def aclose(self) -> None:
        """The same, in an event loop: of that, what was opened in it."""
        shared, store = self._shared, self.store
        self._give_up()
        if not shared.loops and not shared.others:
            await store.aclose()
            return
        running = asyncio.get_running_loop()
        is_needed_here = any(loop is None or loop() is running for loop in list(shared.loops.values()))
        if not is_needed_here and isinstance(store, ShareableStore):
            await store.close_loop()

    def _give_up(self) -> bool:
        """Count no more. Was it one of those who ask in event loops?"""
        self._shared.others.pop(self._number, None)
        return self._shared.loops.pop(self._number, _nobody) is not _nobody

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing() and hasattr(self, "_number"):
            self.close()


def key_of(url: str, options: dict[str, Any]) -> Hashable | None:
    """A key that is equal for the same URL and options only: True is not 1. None if there is no such thing."""
    key = (type(url), url, *((name, type(options[name]), options[name]) for name in sorted(options)))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _nobody() -> None:
    """Leads to no event loop."""


def _running_loop() -> _Loop | None:
    try:
        return weakref.ref(asyncio.get_running_loop())
    except RuntimeError:
        return None

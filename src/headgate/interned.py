"""One thing for each key, for as long as somebody has it.

This module must not know what those are.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from headgate.forks import begin_afresh_in_child

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SWEEP_AT_LEAST: Final = 64


class _Marker:
    """Lives for as long as a call does, however that ends."""

    __slots__ = ("__weakref__",)


class Interned(Generic[K, V]):
    """Things by their keys, held weakly. Safe to share between threads and with forked processes; and a signal's
    handler may ask while it interrupts somebody who is asking.

    No callback takes out what has gone, since one may run at any line of any thread: now and then, whoever comes does
    it for all.
    """

    def __init__(self) -> None:
        self._refs: dict[K, weakref.ref[V]] = {}
        """The value of a key that is there is replaced, and a key is taken out, under the lock only, and only when what
        it led to has gone."""
        self._sweep_at = _SWEEP_AT_LEAST
        self._begin()
        begin_afresh_in_child(self, Interned._begin)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._changing: Callable[[], _Marker | None] = _nobody
        """Leads to the marker of the call that is replacing something, if there is one: one of the same thread, for
        whoever has the lock."""

    def __len__(self) -> int:
        return len(self._refs)

    def get(self, key: K) -> V | None:
        """What there is for a key."""
        ref = self._refs.get(key)
        return None if ref is None else ref()

    def all(self) -> list[V]:
        """All that there are."""
        return [thing for ref in list(self._refs.values()) if (thing := ref()) is not None]

    def intern(self, key: K, made: V) -> V:
        """What there is for a key: from now on `made`, if there was nothing.

        Whoever interrupts another call in the very moment in which that replaces something gets `made` to itself.
        """
        ref = weakref.ref(made)
        found = self._refs.setdefault(key, ref)()
        if found is not None and len(self._refs) < self._sweep_at:
            return found
        with self._lock:
            if self._changing() is not None:
                return made if found is None else found
            marker = _Marker()
            self._changing = weakref.ref(marker)
            try:
                if found is None and (found := self._refs.setdefault(key, ref)()) is None:
                    self._refs[key] = ref
                    found = made
                if len(self._refs) >= self._sweep_at:
                    for one, led in list(self._refs.items()):
                        if led() is None:
                            del self._refs[one]
                    self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._refs))
            finally:
                del marker
        return found


def _nobody() -> None:
    """Leads to nobody."""

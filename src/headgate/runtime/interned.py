"""One thing for each key, for as long as somebody has it.

This module must not know what those are.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from headgate.runtime.locks import lock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SWEEP_AT_LEAST: Final = 64


class Interned(Generic[K, V]):
    """Things by their keys, held weakly. Safe to share between threads and with forked processes; and a signal's
    handler may ask while it interrupts somebody who is asking.

    No callback takes out what has gone, since one may run at any line of any thread: now and then, whoever comes does
    it for all. What is taken out is looked at right before, with no call in between at which a handler could come in.
    """

    def __init__(self) -> None:
        self._refs: dict[K, weakref.ref[V]] = {}
        """A key is taken out under the lock only, and only when what it leads to has gone."""
        self._sweep_at = _SWEEP_AT_LEAST
        self._lock = lock()

    def __len__(self) -> int:
        return len(self._refs)

    def get(self, key: K) -> V | None:
        """Get the thing of a key, if there is one."""
        ref = self._refs.get(key)
        return None if ref is None else ref()

    def all(self) -> list[V]:
        """List all things."""
        return [thing for ref in list(self._refs.values()) if (thing := ref()) is not None]

    def items(self) -> list[tuple[K, V]]:
        """List all things, with their keys."""
        return [(key, thing) for key, ref in list(self._refs.items()) if (thing := ref()) is not None]

    def intern(self, key: K, made: V) -> V:
        """Get the thing of a key: from now on `made`, if there was none."""
        ref = weakref.ref(made)
        while True:
            known = self._refs.setdefault(key, ref)
            found = known()
            if found is not None:
                break
            self._take_out(key, known)
        if len(self._refs) >= self._sweep_at:
            for one, led in list(self._refs.items()):
                if led() is None:
                    self._take_out(one, led)
            self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._refs))
        return found

    def _take_out(self, key: K, gone: weakref.ref[V]) -> None:
        with self._lock, suppress(KeyError):
            if self._refs[key] is gone:
                del self._refs[key]

"""The entries that a command is about: of keys that begin alike, and of one limiter, where one is named.

A store keeps the names of limits, and a limiter may have several: its parts, its tiers and their penalties. Which names
are a limiter's, `headgate.limiter.naming` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headgate.cli.standing import limiters_of
from headgate.limiter.naming import begin_of, is_of

if TYPE_CHECKING:
    from headgate.stores import Entry, ScannableStore


class Chosen:
    """A choice among what a store keeps.

    :param limiter: the name of a limiter, or a limit's as stores have it; None for all.
    :param config: the configuration file. What it says to be another limiter's is not chosen.
    """

    def __init__(self, key_prefix: str, limiter: str | None, config: str | None) -> None:
        self.key_prefix = key_prefix
        self.limiter = limiter
        self._others: set[str] = set()
        if limiter is not None:
            known = limiters_of(config)
            own = known.pop(limiter, {})
            self._others = {name for limits in known.values() for name in limits} - own.keys()

    def scan(self, store: ScannableStore) -> Iterator[Entry]:
        """List what is chosen."""
        if self.limiter is None:
            return store.scan(key_prefix=self.key_prefix)
        entries = store.scan(key_prefix=self.key_prefix, name_prefix=begin_of(self.limiter))
        return (entry for entry in entries if self._has(entry.name))

    def clear(self, store: ScannableStore) -> int:
        """Forget what is chosen, and count it."""
        if self.limiter is None:
            return store.clear(key_prefix=self.key_prefix)
        names = {entry.name for entry in self.scan(store)}
        return sum(store.clear(key_prefix=self.key_prefix, name=name) for name in sorted(names))

    def _has(self, name: str) -> bool:
        assert self.limiter is not None
        return name == self.limiter or (is_of(name, self.limiter) and name not in self._others)

"""The SQLite store: state in a file, by the machine's clock, for all threads and processes of one machine.

This module must not know how a batch comes to the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Literal

from headgate.breaker import DEFAULT, Breaker
from headgate.clock import system_clock
from headgate.decision import Answer, Decision
from headgate.errors import InvalidUse, StoreURLError
from headgate.hits import Group, Hit
from headgate.keys import MAX_PLAIN, check_prefix
from headgate.limits import Limit
from headgate.plans.merging import pages
from headgate.stores.contract import Entry
from headgate.stores.remote import FastPath, RemoteStore, Terms
from headgate.stores.remote.urls import not_understood
from headgate.stores.sqlite.connection import Connection
from headgate.stores.sqlite.file import File

SCHEME: Final = "sqlite://"
_PER_BITE: Final = 200
"""How many entries are restored in one transaction."""


class SqliteStore(RemoteStore):
    """State in a file of SQLite, shared by all threads and processes of this machine that name the same file with the
    same prefix.

    :param path: the file, or `sqlite:///relative/path`, `sqlite:////absolute/path`. It is made when it is first
        needed; its folder has to exist, on a disk of this machine. Beside it lie `-wal` and `-shm`, which are SQLite's,
        and `-turn` and `-next`, by which processes take turns.
    :param prefix: keeps apart those who share a file.
    :param timeout: the deadline of a call, in seconds.
    :param coalesce: let calls that come while others are written go together in the next transaction. The decisions are
        the same.
    :param remember_denials: for how many seconds at most a denial is repeated without a look into the file, while it is
        known that the limit would deny; 0 for not at all. See docs/speed.md.
    :param breaker: when to stop trying a file that fails, so that nobody waits for it; False for never. See
        docs/outages.md.
    :raises StoreURLError: if the URL is not understood, or the folder is not there.
    :raises InvalidUse: if an option is not usable.

    Making a store opens nothing. Safe to share between threads, tasks, event loops and forked processes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        prefix: str = "headgate",
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        breaker: Breaker | Literal[False] = DEFAULT,
    ) -> None:
        terms = Terms(timeout=timeout, coalesce=coalesce, remember_denials=remember_denials, breaker=breaker)
        self.path: Final = _path_of(path)
        _check_folder(self.path.parent)
        self._file = File(self.path, f"{SCHEME}/{self.path}", check_prefix(prefix), terms)
        made_from = {"path": self.path, "prefix": prefix, **terms.options}
        super().__init__(self._file, terms, made_from)

    def fast_path(self, limit: Limit, name: str) -> FastPath | None:
        """As `RemoteStore.fast_path`: without the queue of those who go together."""

        def pack(key: str, cost: int) -> Group | None:
            if not 0 < len(key) <= MAX_PLAIN or not key.isascii() or "\0" in key:
                return None
            return Group((Hit(limit, key, name, cost),))

        return pack, _as_it_is

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """As `ScannableStore.scan`."""
        for page in self._pages(key_prefix, name, name_prefix):
            yield from page

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """As `ScannableStore.clear`."""
        self._learnt.clear()
        return sum(len(page) for page in self._pages(key_prefix, name, name_prefix, removes=True))

    def _pages(
        self, key_prefix: str, name: str | None, name_prefix: str, *, removes: bool = False
    ) -> Iterator[list[Entry]]:
        """List what is owed, page by page, or take it out."""
        after: Entry | None = None
        goes_on = True
        while goes_on:

            def read(connection: Connection, after: Entry | None = after) -> tuple[list[Entry], bool]:
                entries, goes_on = connection.entries(after, key_prefix, name, name_prefix)
                if removes:
                    connection.remove(entries)
                return entries, goes_on

            entries, goes_on = self._file.do(read)
            now_us = self._now_us()
            yield [entry for entry in entries if entry.until_us > now_us]
            after = entries[-1] if entries else None

    def restore(self, entries: Iterable[Entry], /) -> int:
        """As `ScannableStore.restore`."""
        written = 0
        for bite in pages(entries, _PER_BITE):
            written += self._file.do(partial(Connection.restore, entries=bite, now_us=self._now_us()))
        return written

    def _now_us(self) -> int:
        return (self._learnt.clock or system_clock)()


def _as_it_is(reply: Decision, key: str, cost: int) -> Answer:
    return reply


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not there: each call would be an outage, and nobody makes it while the process runs.

    :raises StoreURLError: if there is none.
    """
    try:
        is_there = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError:  # its rights, say: a call tells of them
        return
    if not is_there:
        raise StoreURLError(f"there is no folder {str(folder)!r}: make it, or check the path of the store's file")


def _path_of(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidUse("a path is a str or a Path, not bytes")
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme.lower() != "sqlite":
            raise not_understood(text, "a file is named sqlite:///path")
        if not rest.startswith("/"):
            raise StoreURLError(
                "a store URL of sqlite:// has a third slash before a relative path, and a fourth before an absolute "
                "one: sqlite:///limits.db, sqlite:////var/lib/app/limits.db"
            )
        if "?" in rest or "#" in rest:
            raise StoreURLError("a store URL of sqlite:// has nothing behind its path: options are arguments")
        text = rest[1:]
    if not text or text == ":memory:":
        raise StoreURLError("a store of sqlite:// needs the path of a file; in memory, it is memory://")
    if "\0" in text:
        raise StoreURLError("the path of a file holds no NUL")
    return Path(text).absolute()

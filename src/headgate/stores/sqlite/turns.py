"""Whose turn it is to write, of all threads and processes that share a file: by two locks of the system's on files
beside it.

SQLite by itself lets those who find the file locked sleep for a while and look again, so that whoever comes at the
right moment goes first, and some wait for hundreds of milliseconds. The system's locks wake the next. They are not fair
by themselves, for whoever has just been let go may be back before the next has woken: so there is a second lock, a
place to wait before the first. Whoever has had the file for long enough has to go by there.

The two only say who goes first. That nobody else writes meanwhile, SQLite sees to: were the files removed, nothing
would be counted wrongly. This module must not know SQLite.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns
from typing import Final

MAX_HELD_NS: Final = 2_000_000
"""Whoever has had its turn for so long in all lets those go first who wait."""
LOOK_EVERY_NS: Final = 100_000_000
"""After so long, it is looked whether others take turns by the same files."""

if sys.platform == "win32":  # pragma: no cover - the suite has no Windows
    import msvcrt

    _POLL_S: Final = 0.001

    def _try_lock(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _lock(file: int) -> None:
        while not _try_lock(file):  # its own waiting looks once in a second
            time.sleep(_POLL_S)

    def _unlock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class Spell:
    """How long a process has had the file since it last let others go first. Its threads share one: no lock, since
    nobody is wronged if one of them is a little off.
    """

    def __init__(self) -> None:
        self.held_ns = 0


class Turns:
    """Takes turns with all others that were made for the same path. For one thread at a time.

    :param spell: that of the process.
    :raises OSError: if the files cannot be made.
    """

    _files: tuple[int, ...] = ()

    def __init__(self, path: Path, spell: Spell | None = None) -> None:
        self._spell = spell or Spell()
        self._path = path
        self._open()
        self._look_at_ns = 0
        self.began_ns = 0
        """When the turn was taken, by `perf_counter_ns`."""

    def _open(self) -> None:
        writing, following = self._paths()
        opened = _open_to_lock(writing)
        try:
            self._files = opened, _open_to_lock(following)
        except OSError:
            os.close(opened)
            raise
        self._writing, self._next = self._files
        """One is locked by whoever has its turn, and the other by whoever goes next, while it waits."""

    def _paths(self) -> tuple[Path, Path]:
        real = self._path.resolve()  # whoever names the file by a link takes turns with all others
        return Path(f"{real}-turn"), Path(f"{real}-next")

    def _look(self) -> None:
        """Open the files that are there now, if ours were removed: others take turns by those."""
        ours = self._files
        try:
            found = [
                os.path.samestat(os.fstat(file), path.stat()) for file, path in zip(ours, self._paths(), strict=True)
            ]
        except FileNotFoundError:
            found = []
        if not found or not all(found):
            self._open()
            _close(ours)

    def try_take(self) -> bool:
        """Take a turn if nobody has it, nor waits for it longer than we."""
        if self._spell.held_ns < MAX_HELD_NS:
            is_ours = _try_lock(self._writing)
        elif not _try_lock(self._next):
            return False
        else:
            self._spell.held_ns = 0
            is_ours = _try_lock(self._writing)
            _unlock(self._next)
        self.began_ns = perf_counter_ns()
        return is_ours

    def take(self) -> None:
        """Wait for a turn, however long that takes."""
        _lock(self._next)
        _lock(self._writing)
        _unlock(self._next)
        self._spell.held_ns = 0
        self.began_ns = perf_counter_ns()

    def end(self) -> None:
        """End the turn."""
        _unlock(self._writing)
        now_ns = perf_counter_ns()
        self._spell.held_ns += now_ns - self.began_ns
        if now_ns > self._look_at_ns:
            self._look_at_ns = now_ns + LOOK_EVERY_NS
            with suppress(OSError):  # the folder has gone, say: whoever opens the file is told
                self._look()

    def close(self) -> None:
        """Give up whatever is held."""
        files, self._files = self._files, ()
        _close(files)

    __del__ = close  # if its thread was interrupted while it had the turn


def _open_to_lock(path: Path) -> int:
    # For reading: another user, who may write the file, may not write what one of us has made beside it.
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)


def _close(files: tuple[int, ...]) -> None:
    for file in files:
        with suppress(OSError):
            os.close(file)

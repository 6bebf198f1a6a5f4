"""Locks that are quick to take.

This module must not know what is locked.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from headgate.forks import begin_afresh_in_child


def lock() -> threading.Lock:
    """A `threading.Lock` that is free in a forked process: the thread that may have held it is not there."""
    made = threading.Lock()
    begin_afresh_in_child(made, _free)
    return made


def _free(one: Any) -> None:
    # As `threading` does with its own. `release` would not do: between two holders, a lock says that it is not locked.
    one._at_fork_reinit()


def quick_lock() -> AbstractContextManager[Any]:
    """A `lock` for nothing but `with`, which takes a third less time.

    A `with` looks up `__enter__` and `__exit__` in the class, and binds them anew each time. Here they are bound
    beforehand, in a class of the lock's own. It is as safe as any other `with` from exceptions that signals raise.
    `acquire` and `release` by themselves would be quicker still, and are not. So would a queue with one baton, for a
    caller alone; among many threads, it lets some of them starve.
    """
    taken = lock()
    bound = type("Bound", (), {"__slots__": (), "__enter__": taken.acquire, "__exit__": taken.__exit__})
    made: AbstractContextManager[Any] = bound()
    return made

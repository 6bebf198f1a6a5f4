"""What a forked process must not go on with: its parent's queues, connections and leases.

This module must not know what those are: it is told what makes each of them begin afresh.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final

_afresh: Final[weakref.WeakKeyDictionary[Any, list[Callable[[Any], None]]]] = weakref.WeakKeyDictionary()
"""The methods, by their objects. Not as `WeakMethod`, which complains as the process ends."""


def begin_afresh_in_child(method: Any) -> None:
    """Call a bound method in each process that is forked from now on, for as long as its object lives."""
    _afresh.setdefault(method.__self__, []).append(method.__func__)


def _begin_all() -> None:
    for thing, methods in list(_afresh.items()):
        for begin in methods:
            begin(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)

"""What a forked process must not go on with: its parent's queues, connections and leases.

This module must not know what those are: it is told what makes each of them begin afresh.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Final

_afresh: Final[set[weakref.WeakMethod[Callable[[], None]]]] = set()


def begin_afresh_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in each process that is forked from now on, for as long as its object lives."""
    _afresh.add(weakref.WeakMethod(method, _afresh.discard))


def _begin_all() -> None:
    for reference in list(_afresh):
        if (begin := reference()) is not None:
            begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)

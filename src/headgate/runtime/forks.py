"""Forked processes, which must not go on with their parent's queues, connections and leases.

This module must not know what those are: it is told how each of them begins afresh.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_afresh: Final[weakref.WeakKeyDictionary[object, Callable[[Any], None]]] = weakref.WeakKeyDictionary()
"""Each of them, and how it begins afresh."""


def begin_afresh_in_child(one: T, begin: Callable[[T], None]) -> None:
    """Call `begin` with `one` in each process that is forked from now on, for as long as `one` lives."""
    # No WeakMethod: its callback fails, and says so on stderr, where the interpreter ends and both are swept together.
    _afresh[one] = begin


def _begin_all() -> None:
    for one, begin in list(_afresh.items()):
        begin(one)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)

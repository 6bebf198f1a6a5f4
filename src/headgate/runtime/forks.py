"""Forked processes, which must not go on with their parent's queues, connections and leases.

This module must not know what those are: it is told how each of them begins afresh in the child, and what has to be put
away in the parent before it forks.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_afresh: Final[weakref.WeakKeyDictionary[object, Callable[[Any], None]]] = weakref.WeakKeyDictionary()
"""Each of them, and how it begins afresh."""
_put_away: Final[weakref.WeakKeyDictionary[object, tuple[Callable[[Any], None], Callable[[Any], None]]]] = (
    weakref.WeakKeyDictionary()
)
"""Each thing to be put away, how that is done, and how it goes on."""


def begin_afresh_in_child(one: T, begin: Callable[[T], None]) -> None:
    """Call `begin` with `one` in each process that is forked from now on, for as long as `one` lives."""
    # No WeakMethod: its callback fails, and says so on stderr, where the interpreter ends and both are swept together.
    _afresh[one] = begin


def put_away_before_fork(one: T, put_away: Callable[[T], None], go_on: Callable[[T], None]) -> None:
    """Call `put_away` with `one` before this process forks, and `go_on` in the parent when it has, for as long as `one`
    lives.
    """
    _put_away[one] = put_away, go_on


def _begin_all() -> None:
    for one, begin in list(_afresh.items()):
        begin(one)


def _put_all_away() -> None:
    for one, (put_away, _) in list(_put_away.items()):
        put_away(one)


def _go_on() -> None:
    for one, (_, go_on) in list(_put_away.items()):
        go_on(one)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_put_all_away, after_in_parent=_go_on, after_in_child=_begin_all)


def _hear_of_forks_by(uwsgi: Any) -> None:
    """Begin afresh where uWSGI has forked. It calls Python's hooks only if it is told to, and one of its own anyway."""
    before = getattr(uwsgi, "post_fork_hook", None)

    def forked() -> None:
        _begin_all()
        if before is not None:
            before()

    uwsgi.post_fork_hook = forked


if "uwsgi" in sys.modules:
    _hear_of_forks_by(sys.modules["uwsgi"])

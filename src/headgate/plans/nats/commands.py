"""The commands by which the plans for a bucket ask for what they need, and the terms of judging.

This module must not know how a command is carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.plans.merging import Place
from headgate.plans.nats.kept import Known

R = TypeVar("R")


class Read(NamedTuple):
    """Read an entry. The reply is `Kept`, or an outage."""

    place: Place


class Put(NamedTuple):
    """An entry to be written, in place of its `revision`."""

    place: Place
    revision: int
    text: str | None
    until_us: int
    life_s: int
    """For how many seconds it has to be kept."""


class Commit(NamedTuple):
    """Write entries, all or none. The reply is the revision of each, `Moved`, or an outage: then they may have been
    written.
    """

    puts: tuple[Put, ...]


class Moved:
    """The reply to a `Commit`: nothing was written, since somebody else has written there meanwhile."""


class Pause(NamedTuple):
    """Wait, for a random time up to this. The reply says whether there is time left to go on."""

    longest_us: int


class Now:
    """Read the clock. The reply is the store's time, in microseconds."""


Command = Read | Commit | Pause | Now
Judge = Callable[[Group, int, Callable[[str, str, str], "tuple[str, int] | None"]], tuple[Decision, list[Any]]]
"""As `headgate.stores.holding.judge_group`."""
Commands = Plan[list[Command], R]


class Terms(NamedTuple):
    """The terms of judging."""

    judge: Judge
    known: Known
    """Recent knowledge of the entries; the plan keeps it up to date."""
    is_atomic: bool
    """Can several entries be written all or none?"""
    contention: Callable[[bool], StoreOutage]
    """Makes the outage of a group whose entries others write all the time; or, if told so, whose entries wait for an
    earlier write that the servers have not agreed on."""
    margin_us: int = 0
    """How far the time that is told may be from the server's: an entry is kept for so much longer."""

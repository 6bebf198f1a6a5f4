"""The list of all behaviours, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tests.web.behaviours.serving import Place, Server

Check = Callable[[Server], None]


class Behaviour(NamedTuple):
    """One behaviour: a row of the table."""

    title: str
    section: str
    place: Place
    lacks: Mapping[str, str]
    """The frameworks that do not have it, each with the reason."""
    check: Check
    """Asks a server, and fails if it does not behave."""


SECTIONS: Final = (
    "Limits",
    "Headers",
    "Requests",
    "Responses",
    "Outcomes",
    "Many at once",
    "Outages",
    "No way around",
)
"""The parts of the table, in order."""
BEHAVIOURS: Final[list[Behaviour]] = []


def behaviour(
    section: str, title: str, *, place: Place = "memory", lacks: Mapping[str, str] | None = None
) -> Callable[[Check], Check]:
    """Add a behaviour to the table."""

    def add(check: Check) -> Check:
        assert section in SECTIONS
        BEHAVIOURS.append(Behaviour(title, section, place, lacks or {}, check))
        return check

    return add


def everything() -> list[Behaviour]:
    """All behaviours, in the order in which they are asked: an outage goes last."""
    from tests.web.behaviours import behaviours, bypasses, outcomes  # noqa: F401 - they add theirs

    return sorted(BEHAVIOURS, key=lambda one: one.place == "outage")

"""The commands that plans ask for. This module must not know who does it, nor how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from headgate.decision import Decision
from headgate.hits import Group

InOutage = Literal["answer", "raise"]
"""The way to go on where the store does not answer: let the limiter's outage rule answer, or raise the
`StoreOutage`."""

IsTold = Callable[[Decision], bool]
"""Are those who want to hear told a decision? Not if its caller comes back by itself, and asks again."""


class Ask(NamedTuple):
    """Put groups to the store. The reply is a list of decisions."""

    groups: list[Group]
    in_outage: InOutage = "answer"
    requests: int = 0
    """How many of the groups, the first ones, are requests of callers: those who want to hear are told the decisions
    on them."""
    is_told: IsTold | None = None
    """Which of these decisions they are told; None for all."""
    must_arrive: bool = False
    """Is it to be done to its end even if the caller is cancelled meanwhile? It gives back what was taken, say."""


class Pause(NamedTuple):
    """Sleep. The reply is how long it really took, in microseconds."""

    duration_us: int


class Call(NamedTuple):
    """Call a function, and await what it returns where that is to be awaited. The reply is its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


Command = Ask | Pause
"""The commands of the limiters' plans."""

"""The outcome for one request: was it admitted, by which decisions, what the client is told of it.

An admission gathers all that was decided about a request, by the app's rules before it is routed, and by its route's
own after that. This module must not know a framework, nor how decisions come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from headgate.decision import Decision
from headgate.rules import Rule

Refusal = Literal["limit", "outage", "network"]
"""Why a request is refused: a limit denies it (429), the store does not answer (503), its network is refused (403)."""


class Part(NamedTuple):
    """Limits that are asked together, of some rules: they stand or fall together."""

    limiter: Any
    """The limiter, blocking or asyncio, that has them."""
    labels: tuple[str, ...]
    """The name of each limit for clients, in the order of the hits: `login`, or `llm:tokens`."""
    rules: tuple[Rule, ...]
    """The rule of each limit."""
    names: tuple[str, ...]
    """The name of each limit within its rule."""
    is_single: bool
    """Is it one limit, whose key and cost are given as they are?"""
    wait: float
    """For how many seconds it may wait."""


class Verdict(NamedTuple):
    """The decision on one part."""

    part: Part
    decision: Decision
    key: str
    """The key of the first limit: in many parts that of all."""


class Admission:
    """All that was decided about one request. Used by one task or thread at a time."""

    __slots__ = ("refusal", "request", "slots", "verdicts")

    def __init__(self, request: Any) -> None:
        self.request = request
        self.verdicts: list[Verdict] = []
        """The decisions, those of parts that were admitted and the one that denied. Shadows are not among them."""
        self.refusal: Refusal | None = None
        """Why it is refused; None: it goes."""
        self.slots: list[Any] = []
        """The blocks that hold slots for as long as the request lasts."""

    @property
    def is_admitted(self) -> bool:
        """Does the request go on?"""
        return self.refusal is None

    @property
    def binding(self) -> Verdict | None:
        """The decision that denied, or else the one of which the least share is left; None if nothing was asked."""
        if not self.verdicts:
            return None
        if self.refusal is not None:
            return self.verdicts[-1]
        return min(self.verdicts, key=lambda verdict: verdict.decision.remaining / verdict.decision.limit)

    @property
    def decision(self) -> Decision | None:
        """The decision that binds."""
        binding = self.binding
        return None if binding is None else binding.decision


class Answer(NamedTuple):
    """A response, framework aside."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

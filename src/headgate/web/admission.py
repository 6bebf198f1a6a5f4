"""The outcome for one request: was it admitted, by which decisions, what the client is told of it.

An admission gathers all that was decided about a request, by the app's rules before it is routed, and by its route's
own after that. This module must not know a framework, nor how decisions come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from headgate.decision import Decision
from headgate.web.messages import WebRequest
from headgate.web.parts import Part

Refusal = Literal["limit", "outage", "network", "cost"]
"""Why a request is refused: a limit denies it (429), the store does not answer (503), its network is (403), or it costs
more than its limit can ever admit (413)."""


class Verdict(NamedTuple):
    """The decision on one part."""

    part: Part
    decision: Decision

    @property
    def labels(self) -> Sequence[str]:
        """The names of the limits that the decision is about, for clients and logs: a denial that is remembered is
        about the one that denied.
        """
        labels = self.part.labels
        if len(labels) == 1:
            return labels
        hits = self.decision.group.hits
        return labels if len(labels) == len(hits) else [hit.tier or hit.name for hit in hits]

    @property
    def label(self) -> str:
        """The name of the limit that binds, likewise."""
        labels = self.labels
        if len(labels) == 1:
            return labels[0]
        binding = self.decision.binding
        return labels[[hit.tier or hit.name for hit in self.decision.group.hits].index(binding)]


class Admission:
    """All that was decided about one request. Used by one task or thread at a time."""

    __slots__ = ("before", "is_exempt", "refusal", "request", "shadows", "slots", "verdicts")

    def __init__(self, request: WebRequest) -> None:
        self.request = request
        self.is_exempt = False
        """Does it meet no rule, whatever its route says: by its path, its network, or as a preflight of CORS?"""
        self.verdicts: Sequence[Verdict] = ()
        """The decisions: those of the parts that admitted it, or the one that denied. Shadows are not among them."""
        self.shadows: Sequence[Verdict] = ()
        """Those of the parts that only look."""
        self.before: Sequence[Verdict] = ()
        """The decisions of other admissions of the same request, before this one."""
        self.refusal: Refusal | None = None
        """Why it is refused; None: it goes."""
        self.slots: list[Any] = []
        """The blocks that hold slots for as long as the request lasts."""

    @property
    def is_admitted(self) -> bool:
        """Does the request go on?"""
        return self.refusal is None

    @property
    def is_unfinished(self) -> bool:
        """Is something left to do when the request has been answered, by its response?"""
        return bool(self.slots) or any(verdict.part.is_settled for verdict in self.verdicts)

    @property
    def binding(self) -> Verdict | None:
        """The verdict that denied, or else the one of which the least share is left; None if nothing was asked."""
        verdicts = self.verdicts
        if len(verdicts) <= 1:
            return verdicts[0] if verdicts else None
        return min(verdicts, key=lambda verdict: verdict.decision.remaining / verdict.decision.limit)

    @property
    def decision(self) -> Decision | None:
        """The decision that binds; None if nothing was asked."""
        binding = self.binding
        return None if binding is None else binding.decision


def together(admissions: Sequence[Admission]) -> Admission:
    """All that several limits have decided about one request, as one: of which the client is told.

    :param admissions: at least one.
    """
    if len(admissions) == 1:
        return admissions[0]
    denying = [admission for admission in admissions if not admission.is_admitted]
    merged = Admission(admissions[0].request)
    merged.refusal = denying[-1].refusal if denying else None
    merged.verdicts = [verdict for admission in denying or admissions for verdict in admission.verdicts]
    return merged


class Answer(NamedTuple):
    """A response, framework aside."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

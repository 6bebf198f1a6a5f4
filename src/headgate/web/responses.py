"""The words for clients: header fields for each response, and the response to a request that was refused.

This module must not know a framework, nor how decisions come about.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, get_args

from headgate.errors import InvalidUse
from headgate.identity.sources import check_secret
from headgate.web.admission import Admission, Answer, Refusal
from headgate.web.headers import (
    HeaderStyle,
    Reset,
    RetryAfter,
    Standing,
    binding_of,
    checked_names,
    checked_reset,
    checked_retry_after,
    checked_styles,
    fields,
)

Body = Literal["problem", "text"]
"""The body of a refusal: `application/problem+json` (RFC 9457), or a line of plain text."""

STATUS: Final[dict[Refusal, int]] = {"limit": 429, "outage": 503, "network": 403, "cost": 413}
"""The status of each refusal."""
_TITLES: Final = {
    "quota-exceeded": "Quota Exceeded",
    "abnormal-usage-detected": "Abnormal Usage Detected",
    "temporary-reduced-capacity": "Temporary Reduced Capacity",
}
"""The problem types of the draft, and their titles."""
_TYPES: Final = "https://iana.org/assignments/http-problem-types#"


class Responses:
    """How clients are told. Immutable; safe to share between threads and tasks.

    :param styles: the headers of each response: one style, several that go together, or None for none.
    :param body: `problem` or `text`, whatever the client says that it accepts: a refusal is to cost little.
    :param reset: how `X-RateLimit-Reset` says a time: in seconds from now (`delta`), or since 1970 (`epoch`).
    :param retry_after: how `Retry-After` says a time: in seconds from now (`delta`), or as a `date` of HTTP.
    :param names: other names for some fields, by the usual ones.
    :param partition_secret: of at least 16 bytes: draft 11 tells the keys apart, by hashes that are keyed with it.
    :raises InvalidUse: if one of them does not fit.
    """

    def __init__(
        self,
        styles: HeaderStyle | Collection[HeaderStyle] | None = "draft-11",
        *,
        body: Body = "problem",
        reset: Reset = "delta",
        retry_after: RetryAfter = "delta",
        names: Mapping[str, str] | None = None,
        partition_secret: bytes | str | None = None,
    ) -> None:
        if body not in get_args(Body):
            raise InvalidUse(f"body is 'problem' (application/problem+json) or 'text', not {body!r}")
        self.styles: Final = checked_styles(styles)
        self.body: Final = body
        self.reset: Final = checked_reset(reset)
        self.retry_after: Final = checked_retry_after(retry_after)
        self._names = checked_names(names or {}, self.styles)
        self._partition_secret = check_secret(partition_secret)
        # So most apps have it, and most responses tell of one limit that admits: for those there is a short way.
        self._is_usual = self.styles == ("draft-11",) and partition_secret is None and not self._names

    def fields(self, admission: Admission) -> list[tuple[str, str]]:
        """The header fields for the response to a request; none where no limit was asked."""
        if not admission.verdicts or not (self.styles or any(not decision for _, decision in admission.verdicts)):
            return []
        if self._is_usual and len(admission.verdicts) == 1:
            part, decision = admission.verdicts[0]
            policy = part.policy
            if policy is not None and (left := decision.left()) is not None:
                return [policy.field_11, ("RateLimit", policy.left_11(*left))]
        standings = _standings(admission)
        secret = self._partition_secret
        bound = standings[binding_of(standings)]
        found = fields(self.styles, standings, binding_of(standings), reset=self.reset, partition_secret=secret)
        if self.retry_after == "date":
            found = [(name, bound.retry_date if name == "Retry-After" else value) for name, value in found]
        return [(self._names.get(name, name), value) for name, value in found] if self._names else found

    def raw_fields(self, admission: Admission) -> list[tuple[bytes, bytes]]:
        """The same, as ASGI sends them."""
        verdicts = admission.verdicts
        if self._is_usual and len(verdicts) == 1:
            part, decision = verdicts[0]
            policy = part.policy
            if policy is not None and (left := decision.left()) is not None:
                return [policy.raw_field_11, (b"ratelimit", policy.left_11(*left).encode("ascii"))]
        return encoded(self.fields(admission))

    def detail(self, admission: Admission) -> str:
        """The sentence that tells a person why a request was not admitted, and when to come back."""
        return _words(admission.refusal or "limit", _standings(admission))[1]

    def refuse(self, admission: Admission) -> Answer:
        """The response to a request that was not admitted. One to HEAD has no body, and the same headers."""
        refusal = admission.refusal or "limit"
        standings = _standings(admission)
        told = self.fields(admission)
        status = STATUS[refusal]
        title, detail = _words(refusal, standings)
        if refusal == "limit" and (message := _message(admission)):
            detail = message
        if self.body == "text":
            media, text = "text/plain; charset=utf-8", f"{detail}\n"
        else:
            media = "application/problem+json"
            kind = _kind(refusal, standings)
            problem: dict[str, object] = {"type": f"{_TYPES}{kind}" if kind else "about:blank"}
            problem |= {"title": _TITLES.get(kind, title), "status": status, "detail": detail}
            if refusal == "limit":
                problem["violated-policies"] = [one.policy.name for one in standings if one.retry_after_us]
            text = json.dumps(problem)
        data = text.encode()
        headers = [*told, ("Cache-Control", "no-store"), ("Content-Type", media), ("Content-Length", str(len(data)))]
        return Answer(status, headers, b"" if admission.request.method == "HEAD" else data)


def encoded(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI sends them."""
    return [(_name(name), value.encode("latin-1")) for name, value in headers]


@lru_cache
def _name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _standings(admission: Admission) -> list[Standing]:
    verdicts = admission.verdicts
    if len(verdicts) == 1:
        return verdicts[0].decision.standings(verdicts[0].labels)
    # A rule may have been asked twice, at a higher cost: the last counts.
    found: dict[tuple[Hashable, str], Standing] = {}
    for verdict in verdicts:
        labels = verdict.labels
        state_of = dict(zip(verdict.part.labels, verdict.part.states, strict=True))
        for label, standing in zip(labels, verdict.decision.standings(labels), strict=True):
            found[state_of.get(label, label), standing.key] = standing
    return list(found.values())


def _message(admission: Admission) -> str:
    """The words that the rule of the limit that denied has for it; empty if it has none."""
    verdict = admission.binding
    if verdict is None:
        return ""
    members = dict(zip(verdict.part.labels, verdict.part.members, strict=True))
    member = members.get(verdict.label)
    return "" if member is None else member.rule.message


def _kind(refusal: Refusal, standings: Sequence[Standing]) -> str:
    """The type of the problem; empty where the status says all."""
    if refusal == "limit":
        is_quota = standings[binding_of(standings)].policy.is_quota
        return "quota-exceeded" if is_quota else "abnormal-usage-detected"
    return "temporary-reduced-capacity" if refusal == "outage" else ""


def _words(refusal: Refusal, standings: Sequence[Standing]) -> tuple[str, str]:
    """A title for the status, and what a person is to know."""
    if refusal == "network":
        return "Forbidden", "Requests from this network are refused."
    bound = standings[binding_of(standings)]
    name = bound.policy.name
    if refusal == "cost":
        return "Content Too Large", f"This request costs more than the limit {name} ever admits."
    seconds = max(1, -(-bound.retry_after_us // 1_000_000))
    again = f"try again in {seconds} second{'' if seconds == 1 else 's'}."
    if refusal == "outage":
        return "Service Unavailable", f"The rate limit cannot be looked up at present: {again}"
    if not bound.policy.is_quota:
        return "Too Many Requests", f"Refused too often ({name}): {again}"
    if not bound.policy.has_window:
        return "Too Many Requests", f"Too many requests at the same time ({name}): {again}"
    return "Too Many Requests", f"Too many requests ({name}): {again}"

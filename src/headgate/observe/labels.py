"""The words by which metrics, traces and logs tell decisions apart: policies and results. Never keys.

This module must not know a library.
"""

from __future__ import annotations

from headgate.decision import Decision


def part_of(decision: Decision) -> str:
    """The limit that binds, of a limiter whose limits have names of their own; empty of one limit."""
    if type(decision) is not Decision:  # those of single hits are of classes of their own
        return ""
    hits = decision.group.hits
    return hits[0].tier if len(hits) == 1 else decision.binding


def policy_of(limiter: str, part: str) -> str:
    """The name of a policy: a limiter's, or that of one limit of several, such as `web.login`."""
    return f"{limiter}.{part}" if part else limiter


def result_of(decision: Decision) -> str:
    """`allowed` or `denied`; `degraded_allowed` or `degraded_denied` where the outage rule said so."""
    verdict = "allowed" if decision.allowed else "denied"
    return f"degraded_{verdict}" if decision.source in ("fail_open", "fail_closed") else verdict

"""The words by which metrics, traces and logs tell decisions apart: policies and results. Never keys.

This module must not know a library.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from headgate.decision import Decision
from headgate.limits import Penalty

_SECRET: Final = secrets.token_bytes(16)


def part_of(decision: Decision) -> str:
    """The limit that binds, of a limiter of several; empty of one limit, and of several if the store told of none."""
    if type(decision) is not Decision:  # those of single hits are of classes of their own
        return ""
    hits = decision.group.hits
    if len(hits) == 1:
        return hits[0].tier
    if decision.facts:
        return decision.binding
    spent = [hit for hit in hits if not isinstance(hit.limit, Penalty)]
    return spent[0].tier if len(spent) == 1 else ""  # it is the one that its penalty watches


def policy_of(limiter: str, part: str) -> str:
    """The name of a policy: a limiter's, or that of one limit of several, such as `web.login`. One limit has one name,
    whichever way it is asked: by itself, beside others, or with other numbers for this call.
    """
    limiter, part = _plain(limiter), _plain(part)
    if not part or part == limiter:
        return limiter
    return part if part.startswith(f"{limiter}.") else f"{limiter}.{part}"


def _plain(name: str) -> str:
    """A name as its user wrote it, without what keeps names apart in the store."""
    return name.replace("%2E", ".").replace("%25", "%") if "%" in name else name


def is_request(decision: Decision) -> bool:
    """Is it about a request? One who asks how things stand makes none."""
    return type(decision) is not Decision or decision.group.action != "peek"


def result_of(decision: Decision) -> str:
    """`allowed` or `denied`; `degraded_allowed` or `degraded_denied` where the outage rule said so."""
    verdict = "allowed" if decision.allowed else "denied"
    return f"degraded_{verdict}" if decision.source in ("fail_open", "fail_closed", "local") else verdict


def hash_of(key: str, secret: bytes | str | None) -> str:
    """A hash of a key (keyed BLAKE2), which nobody can make without the secret; that of this process, if None."""
    found = _SECRET if secret is None else secret.encode() if isinstance(secret, str) else secret
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=found[:64]).hexdigest()

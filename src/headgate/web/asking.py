"""Asking about a request, blocking and in an event loop: by the plan, or the short way.

Most requests meet one limit, by a key that is at hand, and what a plan takes for itself is as long as the question. So
where that is all, it is asked at once. This module must not know a framework.
"""

from __future__ import annotations

from typing import Any

from headgate.rules import Rule
from headgate.web.admission import Admission, Verdict
from headgate.web.core import WebLimiter, run, run_async
from headgate.web.messages import WebRequest


def admit(
    limiter: WebLimiter[Any],
    request: WebRequest,
    own: tuple[Rule, ...] = (),
    *,
    has_own: bool = False,
    is_exempt: bool = False,
    known: Admission | None = None,
) -> Admission:
    """Decide about a request as `WebLimiter.admit` does, blocking."""
    plain = None if is_exempt else limiter.plain.of(request, own, has_own=has_own, known=known)
    if plain is None:
        return run(limiter.admit(request, own, has_own=has_own, is_exempt=is_exempt, known=known))
    part, key = plain
    decision = part.limiter.try_acquire(key, part.plain_cost)
    admission = Admission(request) if known is None else known
    if decision.allowed:
        admission.verdicts = (*admission.verdicts, Verdict(part, decision))
    else:
        run(limiter.refused(admission, part, decision))
    return admission


async def admit_async(
    limiter: WebLimiter[Any],
    request: WebRequest,
    own: tuple[Rule, ...] = (),
    *,
    has_own: bool = False,
    is_exempt: bool = False,
    known: Admission | None = None,
) -> Admission:
    """The same, in an event loop."""
    plain = None if is_exempt else limiter.plain.of(request, own, has_own=has_own, known=known)
    if plain is None:
        return await run_async(limiter.admit(request, own, has_own=has_own, is_exempt=is_exempt, known=known))
    part, key = plain
    decision = await part.limiter.try_acquire(key, part.plain_cost)
    admission = Admission(request) if known is None else known
    if decision.allowed:
        admission.verdicts = (*admission.verdicts, Verdict(part, decision))
    else:
        await run_async(limiter.refused(admission, part, decision))
    return admission

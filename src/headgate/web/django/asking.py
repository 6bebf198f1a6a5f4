"""Ask about a request, and answer in the view's place: what the middleware and the decorator do alike.

This module must not know where a view stands.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase

from headgate.rules import Rule
from headgate.web.core import run, run_async
from headgate.web.django.conf import FUNCTIONS, project_limits
from headgate.web.django.exchange import Exchange
from headgate.web.django.request import DjangoRequest, is_unknown_yet, loaded_user
from headgate.web.limits import AppLimits


def ask(exchange: Exchange, native: Any, own: Sequence[Rule], view: str | None = None, **facts: bool) -> Any:
    """Ask, blocking; returns the response to a request that is refused, else None.

    :param facts: `has_own` and `is_exempt`, as for `Exchange.ask`.
    """
    limits = project_limits().blocking
    if run(exchange.ask(limits, DjangoRequest(native, is_async=False, view=view), own, **facts)):
        return None
    return run(exchange.refusal(limits, native))


async def ask_async(
    exchange: Exchange, native: Any, own: Sequence[Rule], view: str | None = None, **facts: bool
) -> HttpResponseBase | None:
    """The same, without blocking the event loop."""
    limits = project_limits().awaiting
    if is_unknown_yet(getattr(native, "user", None)) and _calls_functions(limits, own):
        native.user = await loaded_user(native)  # functions may look at it, and are not to block
    if await run_async(exchange.ask(limits, DjangoRequest(native, is_async=True, view=view), own, **facts)):
        return None
    return await run_async(exchange.refusal(limits, native))


def _calls_functions(limits: AppLimits[Any], own: Sequence[Rule]) -> bool:
    return (
        limits.on_denied is not None
        or any(callable(source) for source in limits.rules.identity.sources)
        or any(map(_has_functions, limits.rules.all))
        or any(map(_has_functions, own))
    )


@functools.lru_cache(maxsize=1024)
def _has_functions(rule: Rule) -> bool:
    given = [getattr(rule, what) for what in FUNCTIONS]
    parts = [part for one in given for part in (one.values() if isinstance(one, dict) else (one,))]
    return any(map(callable, parts))

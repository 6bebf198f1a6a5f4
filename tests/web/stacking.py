"""Several limits on one route: what is tried in each framework, and how many requests pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

PAIRS = pytest.mark.parametrize("limits_of_route", [("3/hour", "3/hour"), ("5/hour", "3/hour"), ("3/hour", "5/hour")])
"""The outer limit and the inner one."""
OPTIONS: list[dict[str, Any]] = [{}, {"is_shadow": True}, {"on_outage": "closed"}, {"key": "*"}]
"""What else the outer one says."""


def passes(limits_of_route: tuple[str, str], option: Mapping[str, Any], most: int = 5) -> int:
    """The number of requests that pass, where nothing else lets pass more than so many."""
    return most if option.get("is_shadow") and limits_of_route[1] == "5/hour" else 3


def hiding(handler: Any) -> Any:
    """An async handler behind a decorator that does not show what it wraps."""

    async def hidden(request: Any) -> Any:
        return await handler(request)

    return hidden

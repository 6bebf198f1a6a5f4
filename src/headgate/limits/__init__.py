"""Limits: rules with numbers, as frozen values; their grammar; and the calendar that some of them follow."""

from __future__ import annotations

from typing import Final

from headgate.limits.concurrency import Concurrency
from headgate.limits.fixed_window import FixedWindow
from headgate.limits.limit import UNITS_US, Duration, Limit, integer_of
from headgate.limits.penalty import Penalty
from headgate.limits.sliding_log import SlidingLog
from headgate.limits.sliding_window import SlidingWindow
from headgate.limits.token_bucket import TokenBucket

KINDS: Final[dict[str, type[Limit]]] = {
    kind.code: kind for kind in (TokenBucket, FixedWindow, SlidingWindow, SlidingLog, Concurrency, Penalty)
}
"""All kinds of limits, by the codes of their algorithms."""

__all__ = [
    "KINDS",
    "UNITS_US",
    "Concurrency",
    "Duration",
    "FixedWindow",
    "Limit",
    "Penalty",
    "SlidingLog",
    "SlidingWindow",
    "TokenBucket",
    "integer_of",
]

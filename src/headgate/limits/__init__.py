"""Limits: rules with numbers, as frozen values; their grammar; and the calendar that some of them follow."""

from __future__ import annotations

from headgate.limits.kinds import (
    UNITS_US,
    Concurrency,
    Duration,
    FixedWindow,
    Limit,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    integer_of,
)

__all__ = [
    "UNITS_US",
    "Concurrency",
    "Duration",
    "FixedWindow",
    "Limit",
    "SlidingLog",
    "SlidingWindow",
    "TokenBucket",
    "integer_of",
]

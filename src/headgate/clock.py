"""Where the time comes from, for stores that have no clock of their own.

A clock is anything that can be called and returns integer microseconds since the Unix epoch. This module
must not know what the time is used for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

Clock = Callable[[], int]
"""Returns the time as integer microseconds since the Unix epoch."""

MICROSECONDS_PER_SECOND = 1_000_000


def system_clock() -> int:
    """The machine's wall clock, in microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


def monotonic_us() -> int:
    """Microseconds since some instant, which go on evenly whatever is done to the wall clock."""
    return time.monotonic_ns() // 1_000


def in_nanoseconds(clock: Clock) -> Clock:
    """A clock that tells the same time in nanoseconds, for callers in a hurry: with our own clocks, it saves a call.
    `clock` tells a thousandth of it, rounded down.
    """
    if clock is system_clock:
        return time.time_ns
    if clock is monotonic_us:
        return time.monotonic_ns
    return lambda: clock() * 1_000


class ManualClock:
    """A clock that stands still until it is told to move. Safe to share between threads.

    >>> clock = ManualClock(start_us=1_000_000)
    >>> clock.advance(seconds=2.5)
    >>> clock()
    3500000
    """

    def __init__(self, start_us: int = 1_800_000_000_000_000) -> None:
        """Start at `start_us` microseconds since the epoch; by default an instant in January 2027."""
        self._now_us = start_us
        self._lock = threading.RLock()  # a signal's handler may move it, too, in the thread that does

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._now_us,)  # a copy goes its own way from here

    def __call__(self) -> int:
        """Return the time in microseconds since the epoch."""
        return self._now_us

    def advance(self, seconds: float = 0, *, microseconds: int = 0) -> None:
        """Move on (or, with negative numbers, back, as real clocks sometimes do)."""
        passed_us = round(seconds * MICROSECONDS_PER_SECOND) + microseconds
        with self._lock:
            self._now_us += passed_us

    def set(self, now_us: int) -> None:
        """Jump to an instant, in microseconds since the epoch."""
        with self._lock:
            self._now_us = now_us

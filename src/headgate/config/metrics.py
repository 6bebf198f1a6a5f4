"""Counts of what one limiter has answered in this process. This module must not know a limiter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from headgate.decision import Decision
from headgate.errors import AcquireTimeout
from headgate.runtime.locks import lock

_WAITED_S: Final = 0.001
"""A call that took longer than its decision and so much more has waited: a round trip is none."""


class Metrics(NamedTuple):
    """Counts of the answers of a limiter in this process, since it was first used. Times are in seconds."""

    allowed: int = 0
    denied: int = 0
    """Those that did not wait, or not for long enough: `timeouts` are among them."""
    timeouts: int = 0
    """Those that wanted to wait, and whose turn would have come too late."""
    waited: int = 0
    """Those that were allowed after their turn had come."""
    average_wait: float = 0.0
    """Of all that `acquire` allowed, those that did not have to wait included."""
    longest_wait: float = 0.0
    concurrent: int = 0
    """The blocks of `with acquire(...)` that run now."""
    most_concurrent: int = 0
    """The most of them that ran at a time."""
    in_outage: int = 0
    """Those that the outage rule answered, since the store did not."""


class Counts:
    """Counts, and gives them as `Metrics`. Safe to share between threads and tasks, and with a signal's handler."""

    def __init__(self) -> None:
        self._lock = lock()
        self._allowed = self._denied = self._timeouts = self._waited = self._acquired = 0
        self._concurrent = self._most_concurrent = self._in_outage = 0
        self._wait_s = self._longest_wait_s = 0.0

    def decided(self, decision: Decision) -> None:
        """Count a decision that did not wait."""
        with self._lock:
            self._count(decision)

    def _count(self, decision: Decision) -> None:
        if decision.allowed:
            self._allowed += 1
        else:
            self._denied += 1
        if decision.source in ("fail_open", "fail_closed", "local"):
            self._in_outage += 1

    def acquired(self, decision: Decision, wait_s: float) -> None:
        """Count a decision that may have waited, and for how long."""
        with self._lock:
            self._count(decision)
            self._acquired += 1
            self._wait_s += wait_s
            self._longest_wait_s = max(self._longest_wait_s, wait_s)
            self._waited += decision.wait_us > 0 or wait_s > _WAITED_S

    @contextmanager
    def timing_out(self) -> Iterator[float]:
        """Count an `AcquireTimeout` that is raised in the block. Gives the time of the beginning, in seconds."""
        try:
            yield time.monotonic()
        except AcquireTimeout as timeout:
            with self._lock:
                self._count(timeout.decision)
                self._timeouts += 1
            raise

    def entered(self) -> None:
        """Count a block that runs."""
        with self._lock:
            self._concurrent += 1
            self._most_concurrent = max(self._most_concurrent, self._concurrent)

    def left(self) -> None:
        """Count one that has ended."""
        with self._lock:
            self._concurrent -= 1

    def metrics(self) -> Metrics:
        """The counts by now."""
        with self._lock:
            return Metrics(
                self._allowed,
                self._denied,
                self._timeouts,
                self._waited,
                self._wait_s / self._acquired if self._acquired else 0.0,
                self._longest_wait_s,
                self._concurrent,
                self._most_concurrent,
                self._in_outage,
            )

"""Can the clocks of a run be trusted?"""

from __future__ import annotations

import time
from typing import Any


class ClockCheck:
    """The callers' clock must be the server's, and must not jump, or no span would mean anything."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin
        self._skew_us = self._skew()
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def _skew(self) -> int:
        """How far the server's clock ever was outside the span of the request."""
        worst = 0
        for _ in range(200):
            before = time.time_ns() // 1_000
            seconds, microseconds = self._admin.time()
            now, after = seconds * 1_000_000 + microseconds, -(-time.time_ns() // 1_000)
            worst = max(worst, before - now, now - after)
        return worst

    def verdict(self) -> str:
        """What is to be said of the clocks, at the end."""
        skew_us = max(self._skew_us, self._skew())
        drift_us = abs(time.time_ns() - time.monotonic_ns() - self._offset_ns) // 1_000
        inside = "never outside a request's span" if skew_us == 0 else f"up to {skew_us} µs outside a request's span"
        return f"the server's clock was {inside} in 400 requests; the machine's was adjusted by {drift_us:,} µs"

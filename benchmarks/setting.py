"""Where a measurement was taken: machine, versions, date; and whether its clocks can be trusted."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.schedules import ENTRIES

LIBRARIES: Final = tuple(dict.fromkeys(entry.library for entry in ENTRIES))


def setting(admin: Any) -> dict[str, str]:
    """What a reader needs to know in order to compare."""
    server = admin.info("server")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"Valkey {server.get('valkey_version', server['redis_version'])}, over TCP on 127.0.0.1",
        "libraries": ", ".join(f"{name} {version(name)}" for name in (*LIBRARIES, "redis", "hiredis")),
    }


class ClockCheck:
    """The callers' clock must be the server's, and must not jump, or no span would mean anything."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin
        self._skew_us = self._skew()
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def _skew(self) -> int:
        """How far the server's clock ever was outside the span of the question."""
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
        inside = "never outside a question's span" if skew_us == 0 else f"up to {skew_us} µs outside a question's span"
        return f"the server's clock was {inside} in 400 questions; the machine's was adjusted by {drift_us:,} µs"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"

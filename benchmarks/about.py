"""On what machine, with which versions, a run was made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis

if TYPE_CHECKING:
    from benchmarks.speed import Bench  # and with it all peers

LIBRARIES: Final = (
    "headgate",
    "limits",
    "throttled-py",
    "pyrate-limiter",
    "distributed-rate-limiter",
    "steindamm",
    "redis-rate-limiters",
    "self-limiters",
    "asyncio-redis-rate-limit",
    "rate-sync",
    "redis",
    "hiredis",
)


def about(bench: Bench) -> dict[str, str]:
    client: Any = redis.Redis.from_url(bench.base)
    server = client.info("server")
    client.close()
    pace = bench.pace
    return {
        **machine(),
        "server": f"Valkey {server['valkey_version']}, over TCP on 127.0.0.1, without persistence",
        "versions": ", ".join(f"{name} {_installed(name)}" for name in LIBRARIES),
        "pace": f"{pace.rounds} rounds, with slices of {pace.slice_s * 1000:.0f} ms or longer",
        "again": "`make bench`, or `make bench ARGS='--only async-64'` for one scenario",
    }


def machine() -> dict[str, str]:
    """The day, and on what it was run."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _installed(name: str) -> str:
    if name == "headgate":
        import headgate

        return headgate.__version__
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"

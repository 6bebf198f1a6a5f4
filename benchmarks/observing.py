"""The time that observers add to a decision in memory, in microseconds: the least of many short runs, taken in turns.

python -m benchmarks.observing
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from typing import Final

from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from headgate import Limiter
from headgate.observe import logs, opentelemetry, prometheus
from headgate.observer import Observer, attach

CALLS: Final = 5_000
RUNS: Final = 100
LIMIT: Final = "1_000_000/second; burst=1_000_000_000"


def ends() -> dict[str, Callable[[], Callable[[], None]]]:
    """Attach each kind of observer; what is returned detaches it."""
    provider = MeterProvider()
    return {
        "an observer that does nothing": lambda: attach(Observer()),
        "Prometheus": lambda: prometheus.expose(CollectorRegistry()),
        "OpenTelemetry, with its SDK": lambda: opentelemetry.instrument(provider),
        "log_denials": lambda: logs.log_denials(to=logging.Logger("denials")),
    }


def measure(names: list[str]) -> dict[str, float]:
    """Microseconds a decision, without observers and with each of these."""
    limiter = Limiter(LIMIT, name="api")

    def once() -> float:
        return timeit.timeit(lambda: limiter.try_acquire("k"), number=CALLS) / CALLS * 1e6

    kinds = ends()
    least = dict.fromkeys(["none", *names], float("inf"))
    for _ in range(RUNS):
        least["none"] = min(least["none"], once())
        for name in names:
            end = kinds[name]()
            least[name] = min(least[name], once())
            end()
    return least


def main() -> None:
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        found = measure(["Prometheus"])
        print(f"{'Prometheus, multiprocess mode':<32} + {found['Prometheus'] - found['none']:.2f}")
        return
    found = measure(list(ends()))
    print(f"{'a decision, nobody listening':<32}   {found['none']:.2f}")
    for name, duration in found.items():
        if name != "none":
            print(f"{name:<32} + {duration - found['none']:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        subprocess.run([sys.executable, "-m", "benchmarks.observing"], env=environment, check=True)


if __name__ == "__main__":
    main()

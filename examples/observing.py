"""Who decided, and how large the batches were: an observer that counts what happens in limiters and stores.

An attack on one key is mostly denied without asking the store. Many threads that ask at once share round trips (a store
in memory has none).

python examples/observing.py
REDIS_URL=redis://localhost:6379/0 python examples/observing.py
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import RLock

from headgate import Decision, Limiter, StoreOutage
from headgate.observer import Observer, attach

STORE = os.environ.get("REDIS_URL", "memory://")


class Counts(Observer):
    """Counts decisions by their source, and round trips by their size."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()
        self.batches: Counter[int] = Counter()
        self.lock = RLock()

    def decided(self, limiter: str, decision: Decision, duration_ns: int) -> None:
        with self.lock:
            self.sources[f"{'allowed' if decision else 'denied'} by {decision.source}"] += 1

    def round_trip(self, store: str, groups: int, duration_ns: int, outage: StoreOutage | None) -> None:
        with self.lock:
            self.batches[groups] += 1


def main() -> None:
    counts = Counts()
    detach = attach(counts)
    with Limiter("5/minute", store=STORE, name="sign-in") as limiter, ThreadPoolExecutor(8) as threads:
        for key in ("attacker", *map(str, range(8))):
            limiter.reset(key)
        list(threads.map(limiter.try_acquire, ["attacker", *map(str, range(8))] * 20))
    detach()
    for source, times in sorted(counts.sources.items()):
        print(f"{source:<30} {times:>4}")
    print(f"{counts.batches.total()} round trips, the largest with {max(counts.batches, default=0)} groups")


if __name__ == "__main__":
    main()

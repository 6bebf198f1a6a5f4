"""A vendor's quota, shared by many workers: each draws some tokens ahead of need, and none goes over the limit.

python examples/shared_quota.py
REDIS_URL=redis://localhost:6379/0 python examples/shared_quota.py
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from headgate import Lease, Limiter

STORE = os.environ.get("REDIS_URL", "memory://")
CALLS = 2_000


def work(limiter: Limiter, calls: int) -> Counter[str]:
    """Call the vendor as often as the quota lets us."""
    told: Counter[str] = Counter()
    for _ in range(calls):
        decision = limiter.try_acquire("vendor")
        told["called the vendor" if decision else "had to wait"] += 1
        told[f"answered from: {decision.source}"] += 1
    return told


def main() -> None:
    with Limiter("fixed-window 1500/hour", store=STORE, name="vendor-quota", lease=Lease(max_tokens=100)) as limiter:
        limiter.reset("vendor")
        with ThreadPoolExecutor(8) as workers:
            told = sum(workers.map(lambda _: work(limiter, CALLS // 8), range(8)), Counter[str]())
        for what, count in sorted(told.items()):
            print(f"{what:<34} {count:>6,}")
        print(f"{'drawn ahead, and used by nobody':<34} {limiter.lease_report.stranded_share:>6.1%}")


if __name__ == "__main__":
    main()

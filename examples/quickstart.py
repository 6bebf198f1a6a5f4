"""A limit in a few lines: ask, read the answer, come back when it says.

python examples/quickstart.py                                    (in this process's memory)
REDIS_URL=redis://localhost:6379/0 python examples/quickstart.py (shared by everybody who uses that server)
"""

from __future__ import annotations

import os
import time

from headgate import Limiter

STORE = os.environ.get("REDIS_URL", "memory://")


def main() -> None:
    with Limiter("5/second", store=STORE, name="quickstart") as limiter:
        limiter.reset("user:42")  # a fresh start, should this have run before

        for number in range(1, 8):
            decision = limiter.try_acquire("user:42")
            if decision:
                print(f"request {number}: go ahead, {decision.remaining} left")
            else:
                print(f"request {number}: not now, again in {decision.retry_after:.6f} s")

        print(f"\nwhat a web app would answer: {decision.headers()}")

        time.sleep(decision.retry_after)
        assert limiter.try_acquire("user:42"), "retry_after is exact"
        print("\nwaited just as long as it said: go ahead")


if __name__ == "__main__":
    main()

"""At most three at a time: slots that are held while a block runs.

Ten threads want to write a report, and the database bears three. A slot is renewed while it is held, given back at the
end of the block, and comes back by itself if its holder crashes.
"""

from __future__ import annotations

import os
import threading
import time

from headgate import Concurrency, Limiter

STORE = os.environ.get("REDIS_URL", "memory://")


def main() -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def report(number: int) -> None:
        nonlocal running, most
        with limiter.hold("reports", timeout=10) as hold:
            with lock:
                running += 1
                most = max(most, running)
                print(f"report {number}: started, {running} at work")
            time.sleep(0.1)
            with lock:
                running -= 1
            assert not hold.is_lost

    with Limiter(Concurrency(3, ttl=30), store=STORE, name="slots") as limiter:
        limiter.reset("reports")
        threads = [threading.Thread(target=report, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"\nall done; at most {most} at a time")
        assert most == 3
        assert limiter.peek("reports").remaining == 3


if __name__ == "__main__":
    main()

"""One request, three limits with a key each: all of them are spent, or none is.

A user may send 5 requests a minute, an address 8, and everybody together 1,000. The requests that are denied cost
nobody anything, and the decision names the limit that stands in the way.
"""

from __future__ import annotations

import os

from headgate import Limiter

STORE = os.environ.get("REDIS_URL", "memory://")


def main() -> None:
    tiers = {"user": "5/minute", "address": "8/minute", "everybody": "1000/minute"}
    with Limiter(tiers, store=STORE, name="tiers") as limiter:
        alice = {"user": "alice", "address": "203.0.113.7", "everybody": "*"}
        bob = {"user": "bob", "address": "203.0.113.7", "everybody": "*"}  # behind the same address
        limiter.reset(alice)
        limiter.reset(bob)

        for name, keys in (("alice", alice), ("bob", bob)):
            for _ in range(6):
                decision = limiter.try_acquire(keys)  # one round trip for all three
                verdict = "admitted" if decision else f"denied by {decision.binding!r}"
                print(f"{name:6} {verdict:22} {decision.remaining} left of {decision.limit} for {decision.key!r}")

        # Alice: 5 of 6. Bob: 3 of 6, as the address has 8 in all. What was denied has spent nothing:
        assert limiter.peek({"user": "bob", "address": "another", "everybody": "*"}).remaining == 2

        # Carol pays for more: her calls come with a limit of their own.
        carol = {"user": "carol", "address": "198.51.100.1", "everybody": "*"}
        limiter.reset(carol)
        paid = limiter.try_acquire(
            carol, cost={"user": 50, "address": 1, "everybody": 50}, limit={"user": "500/minute"}
        )
        assert paid
        print(f"\ncarol, with a limit of 500: 50 at once, and {paid.binding!r} is nearest to its end")


if __name__ == "__main__":
    main()

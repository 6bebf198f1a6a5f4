"""Limits in PostgreSQL: shared by all processes, exact over several keys, and no other server to run.

POSTGRES_URL names a database of yours, such as postgresql://localhost/app.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from headgate import Limiter
from headgate.stores.postgres import PostgresStore


def main(url: str) -> None:
    # The schema is made at the first use; or `headgate schema postgres` prints it for a migration.
    store = PostgresStore(url, prefix="example", timeout=5)
    api = Limiter("20/day", store=store, name="api", on_outage="raise")
    tiers = Limiter({"user": "10/minute", "all": "15/day"}, store=store, name="tiers", on_outage="raise")
    store.clear()

    with ThreadPoolExecutor(16) as threads:  # what comes at the same time goes in one transaction
        admitted = sum(map(bool, threads.map(lambda _: api.try_acquire("user:42"), range(100))))
    print(f"of 100 requests, {admitted} were admitted")

    # Two keys with each request: both have room, or nothing is spent.
    for user in ("ann", "bob"):
        asked = [tiers.try_acquire({"user": user, "all": "*"}) for _ in range(10)]
        denying = next((decision.binding for decision in asked if not decision), "nobody")
        print(f"{user}: {sum(map(bool, asked))} of 10; denied by {denying}")

    for entry in sorted(store.scan()):  # what is owed, for operators
        print(f"kept: {entry.name} of {entry.key}")
    store.close()


if __name__ == "__main__":
    if "POSTGRES_URL" in os.environ:
        main(os.environ["POSTGRES_URL"])
    else:
        print("set POSTGRES_URL, such as postgresql://localhost/app")

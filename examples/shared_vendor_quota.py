"""Workers share a vendor's quota over HTTP: they wait for their turns, and what the vendor tells one, all heed.

The vendor is a small server here, which once says 429 with `Retry-After: 1`. The workers are threads; on Redis, they
may be processes on any number of machines.

REDIS_URL=redis://localhost:6379/0 python examples/shared_vendor_quota.py
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise

import httpx

from headgate import Limiter
from headgate.clients.httpx import RateLimitTransport

STORE = os.environ.get("REDIS_URL", "memory://")
WORKERS, CALLS_EACH = 8, 5
arrived: list[float] = []
numbers = count(1)


class Vendor(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        arrived.append(time.monotonic())
        refuses = next(numbers) == 10
        self.send_response(429 if refuses else 200)
        if refuses:
            self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def work(client: httpx.Client) -> list[int]:
    return [client.get("/orders").status_code for _ in range(CALLS_EACH)]


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    with server, Limiter("50/second; burst=1", store=STORE, name="vendor-orders") as limiter:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        transport = RateLimitTransport(limiter, retries=2, timeout=20)
        client = httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{server.server_port}")
        with client, ThreadPoolExecutor(WORKERS) as workers:
            statuses = [status for told in workers.map(work, [client] * WORKERS) for status in told]
        server.shutdown()
    gaps = [later - earlier for earlier, later in pairwise(arrived)]
    print(f"{len(arrived)} requests arrived in {arrived[-1] - arrived[0]:.2f} s, the refused one twice")
    print(f"the longest gap, after the 429: {max(gaps):.2f} s; answered with 200: {statuses.count(200)}")


if __name__ == "__main__":
    main()

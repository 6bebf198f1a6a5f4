"""Sending the load: a number of senders, each of which sends its next request when it has its answer.

Counts answers, and keeps latencies in a bounded space. Knows nothing of limits or of drawing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

REQUEST_TIMEOUT = 10.0
PAUSE_AFTER_ERROR = 0.05
GIVE_UP_AFTER = 3.0


@dataclass(frozen=True)
class Plan:
    """The load to send: GET requests to `url`, by `concurrency` senders, for `seconds`."""

    url: str
    headers: tuple[tuple[str, str], ...]
    concurrency: int
    seconds: float


@dataclass
class Tally:
    """The results so far. Times are in nanoseconds of the monotonic clock."""

    first_sent: int = 0
    last_answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    longest_us: int = 0

    @property
    def allowed(self) -> int:
        """Answers with a 2xx status."""
        return sum(number for status, number in self.statuses.items() if 200 <= status < 300)

    @property
    def denied(self) -> int:
        """Answers with status 429."""
        return self.statuses[429]

    @property
    def others(self) -> dict[int, int]:
        """Answers with any other status."""
        return {s: n for s, n in sorted(self.statuses.items()) if not 200 <= s < 300 and s != 429}

    @property
    def answered(self) -> int:
        """Requests that got an answer."""
        return self.statuses.total()

    @property
    def finished(self) -> int:
        """Requests that got an answer or failed."""
        return self.answered + self.errors.total()

    @property
    def elapsed_us(self) -> int:
        """From the first request sent to the last answer, rounded up."""
        return max(0, -(-(self.last_answered - self.first_sent) // 1000))

    def answer(self, status: int, started: int, ended: int) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.last_answered = max(self.last_answered, ended)
        microseconds = (ended - started) // 1000
        self.longest_us = max(self.longest_us, microseconds)
        self.latencies[three_digits(microseconds)] += 1

    def fail(self, error: str, ended: int) -> None:
        """Count a request without an answer."""
        self.errors[error] += 1
        self.last_answered = max(self.last_answered, ended)

    def percentile(self, percent: int) -> int:
        """The latency in microseconds that so many percent of the answers did not exceed."""
        rank = -(-self.answered * percent // 100)
        for latency in sorted(self.latencies):
            rank -= self.latencies[latency]
            if rank <= 0:
                return min(latency, self.longest_us)
        return 0


def three_digits(number: int) -> int:
    """Round up to three significant digits, so that the longest run knows a few thousand latencies."""
    step = 1
    while number > 999 * step:
        step *= 10
    return -(-number // step) * step


async def send(plan: Plan, tally: Tally) -> None:
    """Send until the time is up and the last answers are in, or until it is clear that nobody answers."""
    connector = aiohttp.TCPConnector(limit=plan.concurrency)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=plan.headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT),
    ) as session:
        tally.first_sent = time.monotonic_ns()
        end = tally.first_sent + int(plan.seconds * 1e9)
        async with asyncio.TaskGroup() as group:
            for _ in range(plan.concurrency):
                group.create_task(keep_sending(session, plan.url, end, tally))


async def keep_sending(session: aiohttp.ClientSession, url: str, end: int, tally: Tally) -> None:
    """Be one sender."""
    while (started := time.monotonic_ns()) < end:
        try:
            async with session.get(url, allow_redirects=False) as response:
                async for _ in response.content.iter_any():
                    pass
            tally.answer(response.status, started, time.monotonic_ns())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            now = time.monotonic_ns()
            tally.fail(reason(error), now)
            if not tally.answered and now - tally.first_sent > GIVE_UP_AFTER * 1e9:
                return
            await asyncio.sleep(PAUSE_AFTER_ERROR)


def reason(error: Exception) -> str:
    """Name an error so that equal ones are counted together."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "connection refused"
        return f"no connection ({error.os_error.strerror or type(error.os_error).__name__})"
    if isinstance(error, TimeoutError):
        return f"no answer within {REQUEST_TIMEOUT:.0f} s"
    return type(error).__name__

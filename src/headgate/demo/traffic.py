"""The demo's traffic: two users who ask all instances, and what a correct limiter must answer them.

Knows the requests and the arithmetic of the verdict. It must not draw anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from headgate import Limit, TokenBucket, parse_limit
from headgate.demo import DemoError
from headgate.demo.fleet import Fleet, Instance

ALICE, BOB = "alice", "bob"
WAVES = 5
PACE = 0.5
TIMEOUT = aiohttp.ClientTimeout(total=5.0)


@dataclass(frozen=True)
class Answer:
    """The answer of one instance to one user. `remaining` and `retry_after` are its headers' values."""

    user: str
    instance: str
    status: int
    remaining: int | None
    retry_after: int | None

    @property
    def allowed(self) -> bool:
        """Whether the request passed."""
        return self.status == 200

    @property
    def denied(self) -> bool:
        """Whether the limit, and nothing else, turned it away."""
        return self.status == 429


@dataclass
class Story:
    """The story of one user, from where they stood before to their last answer."""

    user: str
    limit: Limit
    remaining_before: int
    debt_before_us: int
    began: float
    ended: float
    answers: list[Answer] = field(default_factory=list)

    @property
    def allowed(self) -> int:
        """How many requests passed."""
        return sum(answer.allowed for answer in self.answers)

    @property
    def denied(self) -> int:
        """How many the limit turned away."""
        return sum(answer.denied for answer in self.answers)

    @property
    def fresh(self) -> bool:
        """Whether the user had a full bucket before."""
        return self.debt_before_us == 0

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most requests that a correct limiter lets through.

        At least what remained, and at most what the bucket held and earned meanwhile.
        """
        rate, period = self.limit.rate, self.limit.period_us
        elapsed_us = int((self.ended - self.began) * 1e6) + 1
        full = self.limit.capacity * period
        most = (full - self.debt_before_us * rate + elapsed_us * rate) // period
        sent = len(self.answers)
        least = min(sent, self.remaining_before)
        return least, max(least, min(sent, most))

    @property
    def problems(self) -> list[str]:
        """The faults in what happened; none, if all is well."""
        found = []
        least, most = self.bounds
        if not least <= self.allowed <= most:
            expected = str(least) if least == most else f"{least} to {most}"
            found.append(f"{self.user}: {self.allowed} requests passed, where {expected} should have")
        for answer in self.answers:
            if not (answer.allowed or answer.denied):
                found.append(f"{self.user}: {answer.instance} answered {answer.status}")
            elif answer.denied and not answer.retry_after:
                found.append(f"{self.user}: {answer.instance} denied without a Retry-After")
            elif answer.remaining is None:
                found.append(f"{self.user}: {answer.instance} answered without X-RateLimit-Remaining")
        return found


def token_bucket(text: str) -> TokenBucket:
    """Read the demo's limit. The verdict knows the arithmetic of token buckets only."""
    limit = parse_limit(text)
    if not isinstance(limit, TokenBucket):
        raise DemoError(f"The demo needs a token bucket such as 10/minute, not {limit}.")
    return limit


async def play(
    fleet: Fleet, see: Callable[[Answer], None], *, alice: str = ALICE, bob: str = BOB, pace: float = PACE
) -> list[Story]:
    """Send both users' requests in waves and tell what happened.

    In each wave alice asks all instances at the same instant, which is when instances that do not truly
    share a limit let too many pass; bob asks one of them.
    """
    limit = token_bucket(fleet.limit)
    async with aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
        stories = {user: await begin(session, fleet.instances[0], user, limit) for user in (alice, bob)}

        async def ask(instance: Instance, user: str) -> None:
            answer = await get(session, instance, user)
            stories[user].answers.append(answer)
            stories[user].ended = time.monotonic()
            see(answer)

        for wave in range(WAVES):
            if wave:
                await asyncio.sleep(pace)
            asked: Sequence[tuple[Instance, str]] = [(instance, alice) for instance in fleet.instances]
            asked = [*asked, (fleet.instances[wave % len(fleet.instances)], bob)]
            await asyncio.gather(*(ask(instance, user) for instance, user in asked))
    return list(stories.values())


async def begin(session: aiohttp.ClientSession, instance: Instance, user: str, limit: Limit) -> Story:
    """Ask where a user stands before the first request."""
    began = time.monotonic()
    try:
        async with session.get(f"{instance.url}/api/status", headers={"X-User-ID": user}) as response:
            if response.status != 200:
                raise DemoError(f"{instance.name} answered {response.status} to /api/status.")
            status = await response.json()
        # A microsecond less than the debt as it is printed, in case the print was rounded up.
        debt_us = max(0, round(status["reset_after"] * 1e6) - 1)
        return Story(user, limit, int(status["remaining"]), debt_us, began, time.monotonic())
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        raise DemoError(f"{instance.name} does not answer as it should: {error!r}") from None


async def get(session: aiohttp.ClientSession, instance: Instance, user: str) -> Answer:
    """Send one request."""
    try:
        async with session.get(f"{instance.url}/api/data", headers={"X-User-ID": user}) as response:
            await response.read()
            remaining = number(response.headers.get("X-RateLimit-Remaining"))
            retry_after = number(response.headers.get("Retry-After"))
            return Answer(user, instance.name, response.status, remaining, retry_after)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DemoError(f"{instance.name} did not answer: {error!r}") from None


def number(text: str | None) -> int | None:
    """Read a header's whole number."""
    with contextlib.suppress(TypeError, ValueError):
        return int(text)  # type: ignore[arg-type]
    return None

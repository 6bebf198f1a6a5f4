"""Where no event loop of asyncio runs, an async limiter says so, and nothing is spent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from headgate import AsyncLimiter, InvalidUse, Limiter, MemoryStore
from headgate.stores.redis import RedisStore

Call = Callable[[AsyncLimiter], Awaitable[Any]]
ROOT = Path(__file__).parents[2]
PROBLEM = r"no event loop of asyncio runs here: AsyncLimiter is for asyncio and uvloop .* trio\.to_thread\.run_sync"


async def hold(limiter: AsyncLimiter) -> None:
    async with limiter.hold("k"):
        pass


async def hold_what_was_taken(limiter: AsyncLimiter) -> None:
    async with limiter.holding(await limiter.try_acquire("k")):
        pass


async def enter(limiter: AsyncLimiter) -> None:
    async with limiter:
        pass


def call_decorated(timeout: float) -> Call:
    def call(limiter: AsyncLimiter) -> Awaitable[None]:
        @limiter.limit(key="k", timeout=timeout)
        async def function() -> None:
            """What would be limited."""

        return function()

    return call


CALLS: dict[str, Call] = {
    "try_acquire": lambda limiter: limiter.try_acquire("k"),
    "try_acquire at a cost": lambda limiter: limiter.try_acquire("k", 2),
    "acquire": lambda limiter: limiter.acquire("k"),
    "acquire within": lambda limiter: limiter.acquire("k", timeout=1),
    "hold": hold,
    "holding": hold_what_was_taken,
    "peek": lambda limiter: limiter.peek("k"),
    "reset": lambda limiter: limiter.reset("k"),
    "decorated": call_decorated(0),
    "decorated to wait": call_decorated(5),
}
MADE = {
    "bucket": "5/minute",
    "window": "fixed-window 5/minute",
    "several": ["5/minute", "9/day"],
    "slots": "concurrency 5",
}


def in_trio(call: Call, limiter: AsyncLimiter) -> Any:
    """What comes of a call under trio, in a thread that never had an event loop."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(trio.run(call, limiter))
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return came[0]


@pytest.mark.parametrize(
    ("where", "limit"),
    [
        *[(where, limit) for where in ("valkey", "cluster") for limit in MADE.values()],
        *[("leased", MADE[name]) for name in ("bucket", "window")],  # neither slots nor groups are leased
    ],
    ids=str,
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_needs_asyncio_says_so_and_spends_nothing(
    valkey_url: str, cluster_url: str, prefix: str, where: str, call: Call, limit: Any
) -> None:
    store = RedisStore(cluster_url if where == "cluster" else valkey_url, prefix=prefix, timeout=20)
    error = in_trio(call, AsyncLimiter(limit, store=store, on_outage="raise", lease=where == "leased"))
    assert isinstance(error, InvalidUse), error
    with pytest.raises(InvalidUse, match=PROBLEM):
        raise error
    left = Limiter(limit, store=store, on_outage="raise").peek("k", 5)
    assert left.allowed
    assert left.remaining == 5
    store.close()


@pytest.mark.parametrize("limit", MADE.values(), ids=MADE)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_in_memory_a_call_that_may_wait_or_hold_says_so_and_the_others_work(call: Call, limit: Any) -> None:
    store = MemoryStore()
    limiter = AsyncLimiter(limit, store=store)
    came = in_trio(call, limiter)
    has_slots = limit == MADE["slots"]
    does_wait = call in (CALLS["acquire"], CALLS["acquire within"], CALLS["hold"], CALLS["decorated to wait"])
    if does_wait or (has_slots and call in (CALLS["holding"], CALLS["decorated"])):
        assert isinstance(came, InvalidUse), came
    else:
        assert not isinstance(came, BaseException), came
    if does_wait or (has_slots and call is CALLS["decorated"]):
        assert Limiter(limit, store=store).peek("k", 5).allowed


def test_closing_says_so_too(valkey_url: str, prefix: str) -> None:
    limiter = AsyncLimiter("5/minute", store=valkey_url, prefix=prefix)
    assert isinstance(in_trio(enter, limiter), InvalidUse)
    assert in_trio(enter, AsyncLimiter("5/minute")) is None


def test_a_limiter_that_serves_asyncio_says_so_under_trio_all_the_same(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=20)
    limiter = AsyncLimiter("5/minute", store=store, on_outage="raise")
    for left in (4, 3):

        async def ask() -> int:
            try:
                return (await limiter.try_acquire("k")).remaining
            finally:
                await store.aclose()

        assert asyncio.run(ask()) == left
        assert isinstance(in_trio(CALLS["try_acquire"], limiter), InvalidUse)


def test_under_trio_a_blocking_limiter_is_asked_in_a_thread() -> None:
    limiter = Limiter("1/minute")

    async def ask() -> list[bool]:
        return [bool(await trio.to_thread.run_sync(limiter.try_acquire, "k")) for _ in range(2)]

    assert trio.run(ask) == [True, False]


IN_THE_MAIN_THREAD = """
import sys, trio
from headgate import AsyncLimiter, InvalidUse
limiter = AsyncLimiter("5/minute", store=sys.argv[1], prefix=sys.argv[2], on_outage="raise")
for call in (limiter.try_acquire, limiter.peek, limiter.acquire, limiter.reset):
    try:
        trio.run(call, "k")
    except InvalidUse as error:
        print(error)
"""


def test_in_the_main_thread_it_is_the_same(valkey_url: str, prefix: str) -> None:
    arguments = [sys.executable, "-c", IN_THE_MAIN_THREAD, valkey_url, prefix]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("no event loop of asyncio runs here") == 4

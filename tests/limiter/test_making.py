"""Making and closing limiters, the `on_decision` hook, and what a limiter says of itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from typing import Any

import pytest
import redis
import redis.asyncio

from headgate import (
    AsyncLimiter,
    Decision,
    InvalidUse,
    Limiter,
    LimitSyntaxError,
    MemoryStore,
    StoreURLError,
    TokenBucket,
)
from headgate.stores.redis import RedisStore
from tests.limiter.bench import Bench, ask, peek, told
from tests.servers import eventually


async def test_a_hook_is_told_every_decision(bench: Bench) -> None:
    told_of: list[Decision] = []
    limiter = bench.limiter("2/minute", on_decision=told_of.append)
    decisions = [await ask(limiter, "k") for _ in range(3)]
    decisions.append(await peek(limiter, "k"))
    assert told_of == decisions
    assert [decision.allowed for decision in told_of] == [True, True, False, False]


async def test_a_hook_that_raises_changes_no_decision(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def hook(decision: Decision) -> None:
        raise RuntimeError("in the hook")

    limiter = bench.limiter("2/minute", name="api", on_decision=hook)
    with caplog.at_level(logging.ERROR, "headgate"):
        decisions = [await ask(limiter, "k") for _ in range(4)]
    assert [decision.allowed for decision in decisions] == [True, True, False, False]
    assert [decision.remaining for decision in decisions] == [1, 0, 0, 0]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["headgate: on_decision of limiter 'api' failed; the decision stands"] * 4
    assert all(record.exc_info for record in caplog.records)


async def test_a_hook_that_raises_stops_neither_waits_nor_decorated_functions(bench: Bench) -> None:
    def hook(decision: Decision) -> None:
        raise ConnectionError("in the hook, and no outage of the store")

    limiter = bench.limiter("100/second; burst=1", on_decision=hook, on_outage="open")
    assert (await told(limiter.acquire("k"))).source == "store"
    assert (await told(limiter.acquire("k"))).source == "store"
    assert await told(limiter.limit(key="other")(lambda: 5)()) == 5


async def test_a_hook_is_told_of_waits_too(bench: Bench) -> None:
    told_of: list[Decision] = []
    limiter = bench.limiter("100/second; burst=1000", on_decision=told_of.append)
    await told(limiter.acquire("k", 1_000))
    await told(limiter.acquire("k"))
    assert [decision.wait_us for decision in told_of] == [0, 10_000]


class _Counting(Limiter):
    """Counts what it was asked."""

    asked = 0

    def try_acquire(self, *args: Any, **options: Any) -> Decision:
        self.asked += 1
        return super().try_acquire(*args, **options)


class _CountingAsync(AsyncLimiter):
    """Counts what it was asked."""

    asked = 0

    async def try_acquire(self, *args: Any, **options: Any) -> Decision:
        self.asked += 1
        return await super().try_acquire(*args, **options)


async def test_a_subclass_may_have_a_try_acquire_of_its_own(bench: Bench) -> None:
    blocking, awaited = _Counting("2/hour", store=bench.store), _CountingAsync("2/hour", store=bench.store)
    decisions = [blocking.try_acquire("k"), await awaited.try_acquire("k"), blocking.try_acquire("k")]
    assert [bool(decision) for decision in decisions] == [True, True, False]
    assert (blocking.asked, awaited.asked) == (2, 1)


async def test_asyncio_can_make_a_task_of_a_request(bench: Bench) -> None:
    limiter = AsyncLimiter("1/hour", store=bench.store)
    assert inspect.iscoroutinefunction(limiter.try_acquire)
    tasks = [asyncio.create_task(limiter.try_acquire("k")) for _ in range(2)]
    assert sum(bool(decision) for decision in await asyncio.gather(*tasks)) == 1


async def test_limits_by_name_are_shown(bench: Bench) -> None:
    assert bench.limiter("5/minute").limits == {"5/minute": TokenBucket(5, per=60)}
    assert bench.limiter("5/minute", name="api").limits == {"api": TokenBucket(5, per=60)}
    assert list(bench.limiter({"user": "5/minute", "ip": "9/s"}, name="api").limits) == ["api.user", "api.ip"]


def test_a_limiter_shows_its_limits_and_store() -> None:
    limiter = Limiter(["5/minute", "concurrency 3"], store="redis://me:secret@localhost:1/2")
    assert repr(limiter) == "<Limiter '5/minute', 'concurrency 3' on <RedisStore redis://localhost:1/2>>"
    assert repr(AsyncLimiter("5/minute")).startswith("<AsyncLimiter '5/minute' on <MemoryStore")


def test_limiters_in_memory_do_not_share_unless_they_share_the_store() -> None:
    one, other = Limiter("1/minute"), Limiter("1/minute")
    assert one.try_acquire("k")
    assert other.try_acquire("k")
    store = MemoryStore()
    one, other = Limiter("1/minute", store=store), Limiter("1/minute", store=store)
    assert one.try_acquire("k")
    assert not other.try_acquire("k")


async def test_a_blocking_and_an_asyncio_limiter_share_what_they_have_in_common(bench: Bench) -> None:
    blocking = Limiter("2/minute", store=bench.store, on_outage="raise")
    awaiting = AsyncLimiter("2/minute", store=bench.store, on_outage="raise")
    assert blocking.try_acquire("k")
    assert await awaiting.try_acquire("k")
    assert not blocking.try_acquire("k")
    assert not await awaiting.try_acquire("k")


async def _hook_to_await(decision: Decision) -> None:
    """What nobody would await."""


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"on_decision": "print"}, InvalidUse, "on_decision is a callable that takes a Decision, not str"),
        ({"on_decision": _hook_to_await}, InvalidUse, "on_decision is called and not awaited"),
        ({"on_decision": functools.partial(_hook_to_await)}, InvalidUse, "on_decision is called and not awaited"),
        ({"store": "mongodb://localhost"}, StoreURLError, "mongodb://... is not understood"),
        ({"store": "localhost:6379"}, StoreURLError, "without a scheme is not understood"),
        ({"store": ""}, StoreURLError, "not understood"),
        ({"store": None}, InvalidUse, "store must be a URL or a Store, not NoneType"),
        ({"store": redis.Redis()}, InvalidUse, r"not Redis: wrap a client.*RedisStore\(client=\.\.\.\)"),
        (
            {"store": MemoryStore(), "timeout": 1.0},
            InvalidUse,
            "goes with a store URL: give it to the store object",
        ),
        (
            {"store": MemoryStore(), "prefix": "p"},
            InvalidUse,
            "goes with a store URL: give it to the store object",
        ),
        ({"on_outage": "share"}, InvalidUse, "on_outage is one of open, closed, raise, local, not 'share'"),
        ({"on_outage": None}, InvalidUse, "on_outage is one of"),
    ],
)
def test_options_that_make_no_limiter_are_refused(
    kind: Any, options: dict[str, Any], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        kind("5/minute", **options)


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_limit_that_is_not_understood_is_never_dropped(kind: Any) -> None:
    for limits in ("1 pr day", ["5/minute", "1 pr day"], {"user": "5/minute", "ip": "1 pr day"}):
        with pytest.raises(LimitSyntaxError, match="expected '/', 'per' or ';'"):
            kind(limits)


def connections(url: str, name: str) -> int:
    """How many connections of this name the server has open."""
    with redis.Redis.from_url(url, decode_responses=True) as admin:
        return sum(1 for client in admin.client_list() if client["name"] == name)


def is_closed(url: str, name: str) -> bool:
    """Has the server seen the end of all connections of this name? It may need a moment to look."""
    eventually(lambda: connections(url, name) == 0, "all connections are closed")
    return True


async def test_a_blocking_limiter_closes_what_it_opened(valkey_url: str, prefix: str) -> None:
    url = f"{valkey_url}?client_name={prefix}"
    with Limiter("5/minute", store=url, prefix=prefix, timeout=20, on_outage="raise") as limiter:
        assert limiter.try_acquire("k")
        assert connections(valkey_url, prefix) == 1
    assert is_closed(valkey_url, prefix)


async def test_an_asyncio_limiter_closes_what_it_opened(valkey_url: str, prefix: str) -> None:
    url = f"{valkey_url}?client_name={prefix}"
    async with AsyncLimiter("5/minute", store=url, prefix=prefix, timeout=20, on_outage="raise") as limiter:
        assert await limiter.try_acquire("k")
        assert connections(valkey_url, prefix) == 1
    assert is_closed(valkey_url, prefix)


async def test_a_limiter_closes_no_store_that_it_was_given(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=20, client_name=prefix)
    with Limiter("5/minute", store=store, on_outage="raise") as limiter:
        limiter.try_acquire("k")
    assert connections(valkey_url, prefix) == 1
    store.close()
    assert is_closed(valkey_url, prefix)
    memory = MemoryStore()
    with Limiter("5/minute", store=memory) as limiter:
        limiter.try_acquire("k")
    assert len(memory) == 1


async def test_an_asyncio_limiter_closes_no_store_that_it_was_given(valkey_url: str, prefix: str) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=20, client_name=prefix)
    async with AsyncLimiter("5/minute", store=store, on_outage="raise") as limiter:
        await limiter.try_acquire("k")
    assert connections(valkey_url, prefix) == 1
    await store.aclose()
    assert is_closed(valkey_url, prefix)


async def test_a_limiter_is_closed_by_an_exception_too(valkey_url: str, prefix: str) -> None:
    url = f"{valkey_url}?client_name={prefix}"

    def fail() -> None:
        with Limiter("5/minute", store=url, prefix=prefix, timeout=20, on_outage="raise") as limiter:
            limiter.try_acquire("k")
            raise RuntimeError

    async def fail_later() -> None:
        async with AsyncLimiter("5/minute", store=url, prefix=prefix, timeout=20, on_outage="raise") as limiter:
            await limiter.try_acquire("k")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(RuntimeError):
        await fail_later()
    assert is_closed(valkey_url, prefix)


def test_a_limiter_may_be_closed_twice_and_before_it_was_used(valkey_url: str, prefix: str) -> None:
    limiter = Limiter("5/minute", store=valkey_url, prefix=prefix)
    limiter.close()
    limiter.close()
    memory = Limiter("5/minute")
    memory.close()
    memory.close()


def test_a_limiter_is_safe_to_share_between_threads(valkey_url: str, prefix: str) -> None:
    for store in ("memory://", valkey_url):
        options = {"prefix": prefix, "timeout": 20} if store == valkey_url else {}
        with Limiter("100/day", store=store, on_outage="raise", **options) as limiter:  # type: ignore[arg-type]
            allowed: list[bool] = []

            def work(limiter: Limiter = limiter, allowed: list[bool] = allowed) -> None:
                allowed.extend([bool(limiter.try_acquire("k")) for _ in range(50)])

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(allowed) == 400
            assert sum(allowed) == 100

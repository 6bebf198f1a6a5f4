"""Replies that are cut, or never end, at each of their bytes: each caller sees an outage or the right decision, and no
spend is counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headgate import AsyncLimiter, Decision, Limiter, StoreOutage
from headgate.stores.postgres import PostgresStore
from headgate.stores.redis import RedisStore
from tests.postgres_servers import own_postgres
from tests.proxy import Proxy, proxy_to
from tests.servers import own_valkey

LIMIT = "fixed-window 1_000_000/year"
OPTIONS: dict[str, Any] = {"timeout": 0.1, "breaker": False, "remember_denials": 0}
PATIENT: dict[str, Any] = {**OPTIONS, "timeout": 20}

Ask = Callable[[int], list[Decision | StoreOutage]]


@pytest.fixture(scope="module")
def valkey() -> Iterator[int]:
    with own_valkey() as server:
        yield server.port


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with own_postgres() as server:
        yield server.url


def asker(kind: str, store: Any, stack: list[Callable[[], object]]) -> Ask:
    """Asks for some keys together, blocking one after the other or awaited at the same time."""
    if kind == "blocking":
        limiter = Limiter(LIMIT, store=store, name="n", on_outage="raise")
        stack.append(store.close)

        def one(number: int) -> Decision | StoreOutage:
            try:
                return limiter.try_acquire(f"k{number}")
            except StoreOutage as outage:
                return outage

        return lambda count: [one(number) for number in range(count)]
    awaited = AsyncLimiter(LIMIT, store=store, name="n", on_outage="raise")
    runner = asyncio.Runner()
    stack += [lambda: runner.run(store.aclose()), runner.close]

    async def together(count: int) -> list[Any]:
        return await asyncio.gather(*(awaited.try_acquire(f"k{n}") for n in range(count)), return_exceptions=True)

    return lambda count: runner.run(together(count))


def try_each_byte(ask: Ask, proxy: Proxy, counts: Callable[[], list[int]], size: int, step: int, keys: int) -> None:
    """Fail at each byte of the reply to so many keys."""
    answered = [0] * keys
    outages = [0] * keys

    def take(answers: list[Decision | StoreOutage]) -> None:
        for number, answer in enumerate(answers):
            if isinstance(answer, StoreOutage):
                outages[number] += 1
            else:
                assert isinstance(answer, Decision), answer
                assert answer.allowed
                answered[number] += 1

    for fault in ("cut", "swallow"):
        for after in range(0, size, step):
            take(ask(keys))
            proxy.fail("cut" if fault == "cut" else "swallow", after)
            take(ask(keys))
            proxy.recover()
            take(ask(keys))
            take(ask(keys))  # a connection that was hung up between may have been the last outage
    assert sum(outages) > 0
    for number, count in enumerate(counts()):
        # Each answer was counted once; each outage at most once.
        assert answered[number] <= count <= answered[number] + outages[number]


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
@pytest.mark.parametrize("keys", [1, 3])
def test_replies_of_redis_that_break_off_at_any_byte(kind: str, keys: int, valkey: int, prefix: str) -> None:
    ends: list[Callable[[], object]] = []
    direct = Limiter(LIMIT, store=RedisStore(f"redis://127.0.0.1:{valkey}/0", prefix=prefix, **PATIENT), name="n")
    with proxy_to(valkey) as proxy:
        ask = asker(kind, RedisStore(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, **OPTIONS), ends)
        ask(keys)
        before = proxy.replied
        ask(keys)
        size = proxy.replied - before
        assert size > 10
        for number in range(keys):
            direct.reset(f"k{number}")
        step = 1 if keys == 1 else 3
        try_each_byte(
            ask, proxy, lambda: [1_000_000 - direct.peek(f"k{n}").remaining for n in range(keys)], size, step, keys
        )
        for end in ends:
            end()


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
def test_replies_of_postgresql_that_break_off(kind: str, postgres: str, prefix: str) -> None:
    ends: list[Callable[[], object]] = []
    port = int(postgres.rpartition(":")[2].partition("/")[0])
    direct = Limiter(LIMIT, store=PostgresStore(postgres, prefix=prefix, **PATIENT), name="n")
    with proxy_to(port) as proxy:
        url = postgres.replace(f":{port}/", f":{proxy.port}/")
        ask = asker(kind, PostgresStore(url, prefix=prefix, **{**OPTIONS, "timeout": 0.3}), ends)
        ask(1)
        before = proxy.replied
        ask(1)
        size = proxy.replied - before
        direct.reset("k0")
        try_each_byte(ask, proxy, lambda: [1_000_000 - direct.peek("k0").remaining], size, max(1, size // 12), 1)
        for end in ends:
            end()

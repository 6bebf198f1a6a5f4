"""Limiters made from one URL share a store and its connections, until the last of them is closed or gone."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from headgate import AsyncLimiter, Limiter, MemoryStore
from headgate.errors import InvalidUse
from headgate.stores import sharing
from headgate.stores.redis import RedisStore
from headgate.stores.registry import share_store
from headgate.stores.sharing import key_of
from tests.alarms import beating
from tests.faults.processes import run_in_processes
from tests.servers import PATIENCE, OwnValkey, eventually, own_valkey, soon
from tests.striking import code_of, each_point

OPTIONS: dict[str, Any] = {"timeout": PATIENCE, "remember_denials": 0, "on_outage": "raise"}
MANY = 60
PLENTY = "1/day; burst=10000"
"""What is spent does not come back while a test runs."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnValkey]:
    """A server that has no room for a connection of each limiter."""
    with own_valkey(maxclients=40) as server:
        yield server


@pytest.fixture
def url(own: OwnValkey, prefix: str) -> str:
    """A URL of the test's own, by which it knows its connections."""
    return f"{own.url}?client_name={prefix}"


@pytest.fixture
def connections(own: OwnValkey, prefix: str) -> Iterator[Any]:
    """Counts the test's connections."""
    with redis.Redis(port=own.port, decode_responses=True) as admin:
        yield lambda: sum(client["name"] == prefix for client in admin.client_list())


def in_some_orders(count: int) -> Iterator[list[int]]:
    """Forwards, backwards, and at random."""
    yield list(range(count))
    yield list(reversed(range(count)))
    yield random.Random(5).sample(range(count), count)


def test_many_limiters_of_one_url_have_one_connection_until_the_last_is_closed(url: str, connections: Any) -> None:
    for order in in_some_orders(MANY):
        limiters = [Limiter("1000/day", store=url, name=f"n{number}", **OPTIONS) for number in range(MANY)]
        for limiter in limiters:
            assert limiter.try_acquire("k").source == "store"
        assert connections() == 1
        for at in order[:-1]:
            limiters[at].close()
        assert connections() == 1
        assert limiters[order[-1]].try_acquire("k").source == "store"
        limiters[order[-1]].close()
        eventually(lambda: connections() == 0, "the connection is closed")


async def test_many_limiters_of_one_event_loop_have_one_connection_until_the_last_is_closed(
    url: str, connections: Any
) -> None:
    for order in in_some_orders(MANY):
        limiters = [AsyncLimiter("1000/day", store=url, name=f"n{number}", **OPTIONS) for number in range(MANY)]
        decisions = await asyncio.gather(*(limiter.try_acquire("k") for limiter in limiters))
        assert {decision.source for decision in decisions} == {"store"}
        assert connections() == 1
        for at in order[:-1]:
            await limiters[at].aclose()
        assert connections() == 1
        assert (await limiters[order[-1]].try_acquire("k")).source == "store"
        assert connections() == 1
        await limiters[order[-1]].aclose()
        eventually(lambda: connections() == 0, "the connection is closed")


async def test_blocking_and_awaiting_limiters_share_and_each_kind_closes_its_own(url: str, connections: Any) -> None:
    for is_awaiting_first in (True, False):
        blocking, awaiting = Limiter("1000/day", store=url, **OPTIONS), AsyncLimiter("1000/day", store=url, **OPTIONS)
        assert blocking._store is awaiting._store
        before = blocking.try_acquire("k").remaining
        assert (await awaiting.try_acquire("k")).remaining == before - 1
        assert connections() == 2
        if is_awaiting_first:
            await awaiting.aclose()
            eventually(lambda: connections() == 1, "that of the event loop is closed")
            assert blocking.try_acquire("k")
            blocking.close()
        else:
            blocking.close()
            assert await awaiting.try_acquire("k")
            await awaiting.aclose()
        eventually(lambda: connections() == 0, "all connections are closed")


async def test_closing_one_breaks_no_call_of_another(url: str, own: OwnValkey) -> None:
    """While the server is slow: whoever is asking gets the answer."""
    staying = AsyncLimiter("1000/day", store=url, **OPTIONS)
    blocking = Limiter("1000/day", store=url, **OPTIONS)
    for going in (AsyncLimiter("1000/day", store=url, **OPTIONS), Limiter("1000/day", store=url, **OPTIONS)):
        await staying.try_acquire("k")
        blocking.try_acquire("k")
        own.freeze()
        asked = asyncio.create_task(staying.try_acquire("k"))
        asked_blocking = asyncio.create_task(asyncio.to_thread(blocking.try_acquire, "k"))
        await asyncio.sleep(0)
        if isinstance(going, AsyncLimiter):
            await going.aclose()
        else:
            going.close()
        own.thaw()
        assert (await asked).source == "store"
        assert (await asked_blocking).source == "store"
    await staying.aclose()
    blocking.close()


async def test_what_decorates_goes_on_though_awaiting_limiters_close(url: str, connections: Any) -> None:
    """A blocking limiter that decorates an async function asks in the event loop, too."""
    limiter = Limiter("1000/day", store=url, **OPTIONS)

    @limiter.limit(key="k")
    async def work() -> int:
        return 5

    closing = AsyncLimiter("1000/day", store=url, **OPTIONS)
    tasks = [asyncio.create_task(work()) for _ in range(20)]
    await asyncio.sleep(0)
    await closing.aclose()
    assert await asyncio.gather(*tasks) == [5] * 20
    assert await work() == 5
    limiter.close()
    await soon(lambda: asyncio.to_thread(lambda: connections() == 0), "all connections are closed")


def test_a_decorated_function_keeps_what_its_limiter_opened(url: str, connections: Any) -> None:
    limiter = Limiter("1000/day", store=url, **OPTIONS)

    @limiter.limit(key="k")
    async def work() -> int:
        return 5

    async def ask() -> None:
        nonlocal limiter
        assert await work() == 5
        del limiter
        gc.collect()
        assert connections() == 1
        assert await work() == 5
        closing = AsyncLimiter("1000/day", store=url, **OPTIONS)  # the only one here of its kind
        await closing.aclose()

    asyncio.run(ask())
    eventually(lambda: connections() == 0, "all connections are closed")


def test_limiters_that_are_dropped_leave_nothing_behind(url: str, connections: Any) -> None:
    limiters = [Limiter("1000/day", store=url, name=f"n{number}", **OPTIONS) for number in range(5)]
    for limiter in limiters:
        limiter.try_acquire("k")
    del limiter
    kept = limiters.pop()
    store = weakref.ref(kept._store)
    limiters.clear()
    gc.collect()
    assert connections() == 1
    assert kept.try_acquire("k").source == "store"
    del kept
    eventually(lambda: connections() == 0, "the connection is closed")
    gc.collect()
    assert store() is None


async def test_awaiting_limiters_that_are_dropped_leave_nothing_behind(url: str, connections: Any) -> None:
    blocking = Limiter("1000/day", store=url, **OPTIONS)
    blocking.try_acquire("k")
    limiters = [AsyncLimiter("1000/day", store=url, name=f"n{number}", **OPTIONS) for number in range(5)]
    for limiter in limiters:
        await limiter.try_acquire("k")
    assert connections() == 2
    del limiter
    limiters.clear()
    gc.collect()
    await soon(lambda: asyncio.to_thread(lambda: connections() == 1), "that of the event loop is closed")
    blocking.close()


async def test_a_store_that_is_dropped_in_a_running_event_loop_hangs_up(url: str, connections: Any) -> None:
    store = RedisStore(url, timeout=3)  # for which it is kept: to see whose deadline has passed
    assert await AsyncLimiter("1000/day", store=store, on_outage="raise").try_acquire("k")
    assert connections() == 1
    del store

    def is_closed() -> bool:
        gc.collect()
        return bool(connections() == 0)

    await soon(lambda: asyncio.to_thread(is_closed), "the connection is closed")


def test_a_limiter_can_be_used_after_it_was_closed_and_closed_again(url: str, connections: Any) -> None:
    limiter, other = Limiter("1000/day", store=url, **OPTIONS), Limiter("1000/day", store=url, **OPTIONS)
    limiter.try_acquire("k")
    for _ in range(3):
        limiter.close()
    assert connections() == 1
    other.close()
    eventually(lambda: connections() == 0, "the connection is closed")
    for _ in range(2):
        assert limiter.try_acquire("k").source == "store"
        assert connections() == 1
        limiter.close()
        eventually(lambda: connections() == 0, "the connection is closed")


async def test_each_event_loop_is_left_by_those_who_were_made_in_it(url: str, connections: Any) -> None:
    """A limiter of another event loop does not keep ours connected."""
    ready, done = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        async with AsyncLimiter("1000/day", store=url, **OPTIONS) as limiter:
            await limiter.try_acquire("k")
            ready.set()
            await asyncio.to_thread(done.wait, PATIENCE)
            assert (await limiter.try_acquire("k")).source == "store"

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    assert await asyncio.to_thread(ready.wait, PATIENCE)
    async with AsyncLimiter("1000/day", store=url, **OPTIONS) as limiter:
        await limiter.try_acquire("k")
        assert connections() == 2
    await soon(lambda: asyncio.to_thread(lambda: connections() == 1), "ours is closed")
    done.set()
    await asyncio.to_thread(thread.join)
    eventually(lambda: connections() == 0, "all connections are closed")


def test_what_differs_has_a_store_of_its_own(url: str) -> None:
    same: dict[str, Any] = {"store": url, "timeout": 1, "prefix": "p", "remember_denials": 1}
    first = Limiter("5/s", **same)
    assert Limiter("9/day", name="other", on_outage="closed", lease=True, **same)._store is not None
    assert Limiter("1/day", name="other", on_outage="closed", **same)._store is first._store
    for other in (
        {"store": url + "&db=1"},
        {"timeout": 2},
        {"timeout": 1.0},
        {"timeout": None},
        {"prefix": "q"},
        {"prefix": None},
        {"remember_denials": 0},
        {"store": RedisStore(url)},
    ):
        options = {"store": other["store"]} if isinstance(other.get("store"), RedisStore) else same | other
        assert Limiter("5/s", **options)._store is not first._store
    with pytest.raises(InvalidUse):
        Limiter("5/s", **same | {"timeout": True})
    unusable: dict[str, Any]
    for unusable in ({"timeout": []}, {"prefix": {}}, {"remember_denials": []}):
        with pytest.raises((InvalidUse, ValueError)):
            Limiter("5/s", **same | unusable)


async def test_a_store_that_was_closed_remembers_no_denials(valkey_url: str, prefix: str) -> None:
    """Whoever empties the server between two tests, say, begins with an empty one, though the first store lives on."""
    options: dict[str, Any] = {"store": valkey_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    with redis.Redis.from_url(valkey_url) as admin:
        for number in range(2):
            limiter = Limiter("1/day", **options)
            assert [bool(limiter.try_acquire("k")) for _ in range(3)] == [True, False, False], number
            limiter.close()
            admin.delete(*admin.scan_iter(f"{prefix}:*"))
        for number in range(2):
            awaited = AsyncLimiter("1/day", **options)
            assert [bool(await awaited.try_acquire("k")) for _ in range(3)] == [True, False, False], number
            await awaited.aclose()
            admin.delete(*admin.scan_iter(f"{prefix}:*"))


def test_limiters_of_a_cluster_share_its_connections(cluster_url: str, prefix: str) -> None:
    options: dict[str, Any] = {"store": cluster_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    keys = [f"k{number}" for number in range(20)]

    def open_to_nodes() -> int:
        return sum(len(node._pool._idle) for node in store._servers._nodes.values())

    first, second = Limiter("100/day", **options), Limiter("100/day", **options)
    store: Any = first._store
    assert second._store is store
    for key in keys:
        assert [limiter.try_acquire(key).remaining for limiter in (first, second)] == [99, 98]
    nodes = open_to_nodes()
    assert nodes == 3
    first.close()
    assert open_to_nodes() == nodes
    assert second.try_acquire(keys[0]).remaining == 97
    second.close()
    assert open_to_nodes() == 0


async def test_awaiting_limiters_of_a_cluster_share_its_connections(cluster_url: str, prefix: str) -> None:
    options: dict[str, Any] = {"store": cluster_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    blocking, first, second = Limiter("100/day", **options), *(AsyncLimiter("100/day", **options) for _ in "12")
    assert blocking.try_acquire("k").remaining == 99
    keys = [f"k{number}" for number in range(20)]
    for limiter in (first, second):
        await asyncio.gather(*(limiter.try_acquire(key) for key in keys))
    await first.aclose()
    assert {(await second.try_acquire(key)).remaining for key in keys} == {97}
    await second.aclose()
    store: Any = blocking._store
    assert [node for node in store._servers._nodes.values() if node._connections.loops()] == []
    assert blocking.try_acquire("k").remaining == 98
    blocking.close()


def test_memory_is_never_shared() -> None:
    one, other = (share_store("memory://", asks_in_loops=False) for _ in range(2))
    assert isinstance(one.store, MemoryStore)
    assert one.store is not other.store
    assert key_of("redis://h", {"timeout": []}) is None


def test_threads_make_and_close_limiters_while_others_ask(url: str, connections: Any) -> None:
    staying = Limiter(PLENTY, store=url, name="staying", **OPTIONS)
    total = 0

    def come_and_go(number: int) -> int:
        for _ in range(60):
            with Limiter(PLENTY, store=url, name=f"n{number}", **OPTIONS) as limiter:
                assert limiter.try_acquire("k").source == "store"
                assert staying.try_acquire("k").source == "store"
            Limiter("5/day", store=url, **OPTIONS)  # and dropped
        return 60

    with ThreadPoolExecutor(8) as threads:
        total = sum(threads.map(come_and_go, range(8)))
    assert staying.peek("k", 0).remaining == 10_000 - total
    assert connections() <= 8
    staying.close()
    eventually(lambda: connections() == 0, "all connections are closed")


def test_event_loops_of_threads_come_and_go(url: str, connections: Any) -> None:
    staying = Limiter(PLENTY, store=url, **OPTIONS)

    async def ask() -> None:
        async with AsyncLimiter(PLENTY, store=url, **OPTIONS) as limiter:
            told = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(10)))
            assert {decision.source for decision in told} == {"store"}

    def work(_: int) -> None:
        for _ in range(15):
            asyncio.run(ask())
            staying.try_acquire("k")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert staying.peek("k", 0).remaining == 10_000 - 4 * 15 * 11
    staying.close()
    eventually(lambda: connections() == 0, "all connections are closed")


@pytest.mark.parametrize("does", ["makes", "closes", "drops"])
def test_a_limiter_is_made_and_closed_while_another_is(url: str, connections: Any, does: str) -> None:
    """At each point, as by a signal's handler or a finalizer."""
    count = itertools.count()

    def interrupt() -> None:
        limiter = Limiter(PLENTY, store=url, name=f"inner{next(count) % 5}", timeout=PATIENCE)
        if does != "makes":
            limiter.try_acquire("k")
        if does == "closes":
            limiter.close()

    def work() -> None:
        with Limiter(PLENTY, store=url, timeout=PATIENCE) as limiter:
            assert limiter.try_acquire("k").source == "store"

    for point in each_point():
        point.striking(work, code_of(sharing), interrupt)
        assert connections() <= 2
    gc.collect()
    eventually(lambda: connections() == 0, "all connections are closed")


def _fork(start: Any, url: str) -> tuple[str, bool, int]:
    """Fork with limiters open; both sides go on, close theirs, and make new ones."""
    start.wait()
    first, second = (Limiter("1000/day", store=url, name="fork", **OPTIONS) for _ in range(2))
    first.try_acquire("k")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            good = [first.try_acquire("k").source, second.try_acquire("k").source]
            first.close()
            second.close()
            with Limiter("1000/day", store=url, name="fork", **OPTIONS) as third:
                good.append(third.try_acquire("k").source)
            os.write(write, ",".join(good).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    told = b""
    while chunk := os.read(read, 1000):
        told += chunk
    os.waitpid(child, 0)
    is_good = first.try_acquire("k").source == "store"
    first.close()
    is_good = is_good and second.try_acquire("k").source == "store"
    remaining = second.peek("k", 0).remaining
    second.close()
    return told.decode(), is_good, remaining


def test_a_forked_process_shares_and_closes_for_itself(url: str, connections: Any) -> None:
    assert run_in_processes([(_fork, (url,))]) == [("store,store,store", True, 1000 - 6)]
    eventually(lambda: connections() == 0, "all connections are closed")


@pytest.mark.parametrize(
    "ending",
    ["", "del blocking, awaiting", "blocking.close()", "asyncio.run(awaiting.aclose())", "sys.exit(3)", "os._exit(3)"],
)
def test_a_process_ends_with_limiters_left_open(own: OwnValkey, ending: str) -> None:
    program = f"""
import asyncio, os, sys, headgate
blocking = headgate.Limiter("100/day", store="{own.url}", name="ends", timeout=20, on_outage="raise")
awaiting = headgate.AsyncLimiter("100/day", store="{own.url}", name="ends", timeout=20, on_outage="raise")
async def ask():
    return (await awaiting.try_acquire("k")).source
print(blocking.try_acquire("k").source, asyncio.run(ask()), flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == (3 if "exit" in ending else 0)
    assert done.stdout == "store store\n"
    assert done.stderr == ""


def test_a_signals_handler_makes_and_closes_limiters(url: str, connections: Any) -> None:
    made = 0

    def beat() -> None:
        nonlocal made
        with Limiter(PLENTY, store=url, timeout=PATIENCE, name="beat") as limiter:
            limiter.try_acquire("k")
        made += 1

    with beating(beat, 0.002):
        for number in range(300):
            with Limiter(PLENTY, store=url, timeout=PATIENCE, name=f"n{number % 3}") as limiter:
                limiter.try_acquire("k")
    assert made > 10
    with Limiter(PLENTY, store=url, timeout=PATIENCE, name="beat", on_outage="raise") as limiter:
        assert limiter.peek("k", 0).remaining == 10_000 - made
    gc.collect()
    eventually(lambda: connections() == 0, "all connections are closed")

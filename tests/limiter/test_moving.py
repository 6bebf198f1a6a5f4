"""Limiters and stores that are pickled and copied: another process counts on the same keys."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from subprocess import PIPE
from typing import Any

import pytest
import redis
import redis.asyncio

import headgate
from headgate import AsyncLimiter, Concurrency, InvalidUse, Lease, Limiter, ManualClock, MemoryStore, TokenBucket
from headgate.stores.redis import RedisStore
from tests.limiter import moving
from tests.servers import PATIENCE

SPAWN = multiprocessing.get_context("spawn")


def pickled(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


WAYS: list[Callable[[Any], Any]] = [
    *(partial(pickled, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    copy.copy,
    copy.deepcopy,
]


@pytest.fixture
def pool(valkey_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessPoolExecutor]:
    """Processes that import what they need, and have nothing of ours."""
    monkeypatch.setenv("MOVING_URL", valkey_url)
    monkeypatch.setenv("MOVING_PREFIX", prefix)
    with ProcessPoolExecutor(2, SPAWN) as executor:
        yield executor


# --- other processes ---


def test_a_limiter_goes_to_the_processes_of_a_pool(valkey_url: str, prefix: str, pool: ProcessPoolExecutor) -> None:
    with Limiter("100/day", store=valkey_url, prefix=prefix, timeout=PATIENCE, on_outage="raise") as limiter:
        assert limiter.try_acquire("k").remaining == 99
        told = list(pool.map(partial(moving.remaining, limiter), ["k"] * 10))
        assert sorted(remaining for remaining, _ in told) == list(range(89, 99))
        assert os.getpid() not in {pid for _, pid in told}
        assert pool.submit(limiter.try_acquire, "k", 5).result().remaining == 84  # and its methods do
        assert limiter.peek("k").remaining == 84


def test_an_awaiting_limiter_goes_to_the_processes_of_a_pool(
    valkey_url: str, prefix: str, pool: ProcessPoolExecutor
) -> None:
    limiter = AsyncLimiter("100/day", store=valkey_url, prefix=prefix, timeout=PATIENCE, on_outage="raise")
    assert sorted(pool.map(partial(moving.call_awaited, limiter), ["k"] * 4)) == [96, 97, 98, 99]


def test_a_store_goes_to_the_processes_of_a_pool(valkey_url: str, prefix: str, pool: ProcessPoolExecutor) -> None:
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENCE, hash_tag="tag", coalesce=False)
    limiter = Limiter("100/day", store=store, on_outage="raise")
    assert sorted(told for told, _ in pool.map(partial(moving.remaining, limiter), ["k"] * 4)) == [96, 97, 98, 99]
    store.close()


def test_a_limiter_is_an_argument_of_a_process(valkey_url: str, prefix: str) -> None:
    with Limiter("100/day", store=valkey_url, prefix=prefix, timeout=PATIENCE, on_outage="raise") as limiter:
        limiter.try_acquire("k")
        queue = SPAWN.Queue()
        process = SPAWN.Process(target=moving.put, args=(limiter, "k", queue))
        process.start()
        assert queue.get(timeout=60)[0] == 98
        process.join(60)
        assert process.exitcode == 0


def test_decorated_functions_go_to_the_processes_of_a_pool(pool: ProcessPoolExecutor) -> None:
    assert list(pool.map(moving.blocking_work, range(3))) == [1, 2, 3]
    assert list(pool.map(moving.work_in_a_thread, range(3))) == [2, 3, 4]


def test_a_limiter_is_read_by_a_program_that_has_imported_nothing(valkey_url: str, prefix: str) -> None:
    options: dict[str, Any] = {"store": valkey_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    with Limiter({"user": "5/minute", "ip": "100/day"}, name="api", **options) as limiter:
        keys = {"user": "ann", "ip": "::1"}
        limiter.try_acquire(keys)
        program = f"""
import pickle, sys
limiter = pickle.load(sys.stdin.buffer)
print(limiter.try_acquire({keys!r}).remaining)
"""
        told = subprocess.run([sys.executable, "-c", program], check=True, input=pickle.dumps(limiter), stdout=PIPE)
        assert told.stdout == b"3\n"


# --- what comes back ---

URL = "redis://me:secret@localhost:1/2"
MADE: list[Callable[[], Any]] = [
    lambda: Limiter("100/minute", store=URL),
    lambda: Limiter("100/minute; burst=5", store=URL, name="api", on_outage="closed", on_decision=moving.hear),
    lambda: Limiter(["100/minute", "concurrency 5"], store=URL, timeout=3, prefix="p", remember_denials=0),
    lambda: Limiter(["100/minute"], store=URL, name="api"),
    lambda: Limiter([TokenBucket(3, per=7), Concurrency(2)], store=URL, name="api"),
    lambda: Limiter({"a": "100/minute", "b.c": "fixed-window 5/day; tz=Europe/Berlin"}, store=URL, name="api"),
    lambda: Limiter({"a": "100/minute", "b": TokenBucket(1)}, store="redis+cluster://h:1,i:2"),
    lambda: Limiter("100/minute", store=URL, lease=True),
    lambda: Limiter("100/minute", store=URL, lease=Lease(7, 2.0)),
    lambda: AsyncLimiter("sliding-log 100/minute", store=URL, lease=False),
    lambda: AsyncLimiter(["5/s"], store=URL, on_outage="raise", prefix="q"),
    lambda: Limiter("5/s", store=RedisStore(URL, hash_tag="t", timeout=2, coalesce=False, client_name="c")),
]


def about(limiter: Any) -> tuple[Any, ...]:
    """All that makes a limiter what it is."""
    store = limiter._store
    return (
        type(limiter), repr(limiter), limiter.limits, limiter._policy.name, limiter._parts.outage_rule.mode,
        limiter._parts.reporter.on_decision, limiter._policy.is_tiered, limiter._policy.is_single,
        limiter._parts.options["lease"], limiter._leases is None,
        store.timeout, store.name, store._prefix, store._learnt.denials is None, store._made_from,
        store._learnt.denials and store._learnt.denials._cap_us,
    )  # fmt: skip


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("way", WAYS)
def test_what_comes_back_is_like_what_went(make: Callable[[], Any], way: Callable[[Any], Any]) -> None:
    limiter = make()
    copied = way(limiter)
    assert copied is not limiter
    assert about(copied) == about(limiter)
    assert about(way(copied)) == about(limiter)
    assert "secret" not in repr(copied)
    assert copied._parts.outage_rule is not limiter._parts.outage_rule


def test_copies_of_one_url_share_its_connections(valkey_url: str, prefix: str) -> None:
    limiter = Limiter("100/day", store=valkey_url, prefix=prefix, timeout=PATIENCE, on_outage="raise")
    copies = [way(limiter) for way in WAYS]
    for number, copied in enumerate(copies):
        assert copied._store is limiter._store
        assert copied.try_acquire("k").remaining == 99 - number
    limiter.close()
    for copied in copies:
        copied.close()


def test_limiters_that_go_together_stay_together() -> None:
    store = RedisStore(URL)
    one, other = pickled([Limiter("5/s", store=store), AsyncLimiter("5/s", store=store)])
    assert one._store is other._store
    assert one._store is not store


class Tenant(Limiter):
    """A limiter that is made in another way, and knows more."""

    asked = 0

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        super().__init__("100/minute", store=URL, name=tenant)
        self._notes = ["new"]
        self.asked = 3


@pytest.mark.parametrize("way", WAYS)
def test_what_a_subclass_knows_comes_along(way: Callable[[Any], Any]) -> None:
    copied = way(Tenant("ann"))
    assert isinstance(copied, Tenant)
    assert (copied.tenant, copied._notes, copied.asked, copied._policy.name) == ("ann", ["new"], 3, "ann")
    assert about(copied) == about(Tenant("ann"))


def test_the_names_of_a_limiters_own_are_known(valkey_url: str, prefix: str) -> None:
    """Or a copy would take with it what is not to be copied."""
    for kind in (Limiter, AsyncLimiter):
        assert kind("5/s", store=valkey_url)._of_subclasses() == {}
        assert kind("5/s", store=valkey_url, lease=True)._of_subclasses() == {}
        assert kind(["5/s", "concurrency 3"])._of_subclasses() == {}
    with Limiter("concurrency 5", store=valkey_url, prefix=prefix, timeout=PATIENCE) as limiter, limiter.hold("k"):
        assert limiter._of_subclasses() == {}
        assert pickled(limiter).peek("k", 0).remaining == 4


def test_a_limiter_with_tokens_in_hand_comes_back_without(valkey_url: str, prefix: str) -> None:
    options: dict[str, Any] = {"store": valkey_url, "prefix": prefix, "timeout": PATIENCE, "on_outage": "raise"}
    with Limiter("1000/day", lease=Lease(max_tokens=50, life=60), **options) as limiter:
        while limiter.lease_report.held == 0:
            limiter.try_acquire("k")
        held = limiter.lease_report.held
        with pickled(limiter) as copied:
            assert copied.lease_report == (0, 0, 0, 0)
        assert limiter.lease_report.held == held


async def test_a_limiter_in_use_in_an_event_loop_can_be_copied(valkey_url: str, prefix: str) -> None:
    async with AsyncLimiter("100/day", store=valkey_url, prefix=prefix, timeout=PATIENCE) as limiter:
        assert (await limiter.try_acquire("k")).remaining == 99
        for number, way in enumerate(WAYS):
            copied = way(limiter)
            assert (await copied.try_acquire("k")).remaining == 98 - number
            await copied.aclose()
        assert limiter._of_subclasses() == {}


# --- what cannot go ---


@pytest.mark.parametrize("way", [pickled, copy.deepcopy])
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Limiter("5/s"), r"in memory cannot be pickled.* in this process alone.*store='redis://\.\.\.'"),
        (lambda: AsyncLimiter("5/s", store="memory://"), "in memory cannot be pickled"),
        (lambda: Limiter("5/s", store=MemoryStore(ManualClock())), "in memory cannot be pickled"),
        (MemoryStore, "in memory cannot be pickled"),
        (lambda: [{"a": MemoryStore()}], "in memory cannot be pickled"),
        (
            lambda: Limiter("5/s", store=RedisStore(client=redis.Redis())),
            r"with a client of yours cannot be pickled.*make it from a URL, as RedisStore\('redis://\.\.\.'\)",
        ),
        (lambda: RedisStore(client=redis.asyncio.Redis()), "with a client of yours cannot be pickled"),
        (lambda: headgate.testing.use_clock(RedisStore(URL), ManualClock()), "a clock of a test's cannot be pickled"),
    ],
)
def test_what_cannot_be_pickled_says_why(way: Callable[[Any], Any], make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(InvalidUse, match=problem) as caught:
        way(make())
    assert "secret" not in str(caught.value)


def test_a_copy_that_shares_its_store_counts_there(valkey_url: str, prefix: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    theirs = RedisStore(client=client, prefix=prefix, timeout=PATIENCE)
    for limiter in (Limiter("3/day"), Limiter("3/day", store=MemoryStore()), Limiter("3/day", store=theirs)):
        copied = copy.copy(limiter)
        assert [one.try_acquire("k").remaining for one in (limiter, copied, limiter)] == [2, 1, 0]
        copied.close()
        assert not limiter.try_acquire("k")
    copy.copy(theirs).close()
    theirs.close()
    client.close()


# --- values ---


@pytest.mark.parametrize("way", WAYS)
def test_a_clock_that_was_copied_stands_where_the_other_stood(way: Callable[[Any], Any]) -> None:
    clock = ManualClock(5_000_000)
    clock.advance(seconds=1)
    copied = way(clock)
    assert copied() == 6_000_000
    copied.advance(seconds=1)
    assert (clock(), copied()) == (6_000_000, 7_000_000)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "value",
    [
        Lease(7, 2.0),
        Limiter("5/s").lease_report,
        TokenBucket(5, per=3),
        Concurrency(5),
        headgate.parse_limit("fixed-window 5/day; tz=Europe/Berlin"),
    ],
    ids=str,
)
def test_values_are_equal_to_their_copies(value: Any, way: Callable[[Any], Any]) -> None:
    assert way(value) == value

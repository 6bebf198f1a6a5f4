"""redis-py without the names that it does not promise to keep: headgate asks by its public way, or says what to do."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.cluster import RedisCluster

import headgate
from headgate import AsyncLimiter, InvalidUse, Limiter, ManualClock, StoreTimeout, StoreUnavailable
from headgate.stores.redis import RedisStore
from headgate.stores.redis.connections import SocketConnection
from headgate.stores.redis.library import PublicTransport
from headgate.testing import StoreContract, use_clock
from tests.servers import OwnValkey, eventually, fake_server, own_valkey, refusal, soon

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""


def without(kind: Any, *names: str) -> Any:
    """A class of redis-py's as a later release may have it: these names are not there for headgate."""

    class Without(kind):  # type: ignore[misc]  # whatever it is
        def __getattribute__(self, name: str) -> Any:
            if name in names and sys._getframe(1).f_globals["__name__"].startswith("headgate."):
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            return super().__getattribute__(name)

    return Without


Blocking = without(redis.Connection, "_sock")
Awaited = without(redis.asyncio.Connection, "_reader", "_writer")


def public_only(**options: Any) -> Any:
    """A connection without private names, for threads or for event loops."""
    return (Awaited if isinstance(options.get("retry"), AsyncRetry) else Blocking)(**options)


PUBLIC_ONLY: dict[str, Any] = {"connection_class": public_only}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@asynccontextmanager
async def on(
    url: str, *, is_public: bool = True, **options: Any
) -> AsyncIterator[tuple[RedisStore, Limiter, AsyncLimiter]]:
    """A store by the public way, and limiters on it."""
    given: dict[str, Any] = {"timeout": PATIENT, "remember_denials": 0} | (PUBLIC_ONLY if is_public else {}) | options
    store = RedisStore(url, **given)
    blocking = Limiter("1000/day", store=store, on_outage="raise", name="both")
    yield store, blocking, AsyncLimiter("1000/day", store=store, on_outage="raise", name="both")
    await store.aclose()


class TestByThePublicWay(StoreContract):
    @pytest.fixture(params=["one server", "a cluster"])
    def store(self, request: pytest.FixtureRequest, clock: ManualClock, prefix: str) -> Iterator[RedisStore]:
        url = request.getfixturevalue("valkey_url" if request.param == "one server" else "cluster_url")
        store = use_clock(RedisStore(url, prefix=prefix, timeout=10, connection_class=public_only), clock)
        yield store
        store.close()


async def test_the_private_way_is_taken_where_there_is_one_and_the_public_way_where_there_is_none(
    own: OwnValkey,
) -> None:
    for is_public in (False, True):
        connector = RedisStore(own.url, timeout=PATIENT, **PUBLIC_ONLY if is_public else {})._connector
        blocking, awaited = connector.connect(), await connector.connect_async()
        assert isinstance(blocking, SocketConnection) is not is_public
        assert isinstance(awaited._transport, PublicTransport) is is_public
        blocking.close()
        awaited.close()
        await asyncio.sleep(0.01)  # to its end


async def test_many_tasks_share_one_connection_and_wait_for_one_another_no_longer_than_needed(own: OwnValkey) -> None:
    async with on(own.url, prefix="many", client_name="many", coalesce=False) as (_, _, limiter):
        decisions = await asyncio.gather(*(limiter.try_acquire(f"k{number % 7}") for number in range(350)))
        assert sorted(decision.remaining for decision in decisions) == sorted([*range(950, 1000)] * 7)
        with own.admin() as admin:
            assert [client["name"] for client in admin.client_list()].count("many") == 1
            own.freeze()
            asked = [asyncio.create_task(limiter.try_acquire("k")) for _ in range(20)]
            await asyncio.sleep(0.05)
            own.thaw()
            assert sorted(decision.remaining for decision in await asyncio.gather(*asked)) == [*range(980, 1000)]


async def test_many_threads_are_answered_exactly(own: OwnValkey) -> None:
    async with on(own.url, prefix="threads", coalesce=False) as (_, limiter, _):
        with ThreadPoolExecutor(8) as threads:
            decisions = list(threads.map(lambda _: limiter.try_acquire("k"), range(200)))
        assert sorted(decision.remaining for decision in decisions) == [*range(800, 1000)]


async def test_a_connection_that_was_killed_while_idle_is_replaced_without_a_word(
    own: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with on(own.url, prefix="killed", client_name="killed") as (_, limiter, awaiting):
        with own.admin() as admin:
            for _ in range(2):
                assert limiter.try_acquire("k")
                assert await awaiting.try_acquire("k")
                for client in admin.client_list():
                    if client["name"] == "killed":
                        admin.client_kill_filter(_id=client["id"])
                await asyncio.sleep(0.05)  # the news has to reach the event loop
        assert awaiting.limits
    assert not caplog.records


async def test_a_cancelled_request_does_not_shift_the_replies(own: OwnValkey) -> None:
    async with on(own.url, prefix="cut") as (_, _, limiter):
        await limiter.try_acquire("a")
        for pause in [0.0] * 20 + [0.000_1 * number for number in range(20)]:
            task = asyncio.create_task(limiter.try_acquire("a", 10))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            assert (await limiter.try_acquire("b")).key == "b"
        assert (await limiter.peek("b", 0)).remaining == 960


async def test_a_server_that_hangs_is_waited_for_until_the_deadline(own: OwnValkey) -> None:
    async with on(own.url, prefix="hung", timeout=0.2, client_name="hung") as (_, limiter, awaiting):
        assert limiter.try_acquire("k")
        assert await awaiting.try_acquire("k")
        own.freeze()
        try:
            with pytest.raises(StoreTimeout):
                limiter.try_acquire("k")
            with pytest.raises(StoreTimeout):
                await awaiting.try_acquire("k")
        finally:
            own.thaw()

        async def is_back() -> bool:
            try:
                return bool(limiter.try_acquire("k")) and bool(await awaiting.try_acquire("k"))
            except StoreTimeout:
                return False

        await soon(is_back, "it answers again")

    async def is_closed() -> bool:
        with own.admin() as admin:
            return "hung" not in [client["name"] for client in admin.client_list()]

    await soon(is_closed, "all are closed")


async def test_scripts_that_the_server_forgot_are_told_again(own: OwnValkey) -> None:
    async with on(own.url, prefix="flush") as (_, limiter, awaiting):
        with own.admin() as admin:
            admin.script_flush()
            assert limiter.try_acquire("k").remaining == 999
            admin.script_flush()
            assert (await awaiting.try_acquire("k")).remaining == 998


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("NOPERM this user has no permissions to run the 'evalsha' command", "may not run EVALSHA"),
        ("NOPERM it is forbidden", "its user may not do this"),
        ("NOAUTH Authentication required.", "refuses the user name or password"),
        ("MOVED 5 127.0.0.1:1", r"it is a node of a cluster, and answered 'MOVED 5 127\.0\.0\.1:1'"),
        ("READONLY You can't write against a read only replica.", "error: READONLY You can't write"),
        ("OOM command not allowed", "OOM|command not allowed"),
        ("BUSY a script runs", "error: BUSY a script runs"),
        ("ERR something else", "something else"),
        ("LOADING the dataset", "the dataset"),
    ],
)
async def test_an_error_of_the_server_means_what_it_means_by_the_private_way(words: str, problem: str) -> None:
    for is_public in (False, True):
        with fake_server(refusal(words)) as fake:
            async with on(f"redis://127.0.0.1:{fake.port}", is_public=is_public) as (_, limiter, awaiting):
                with pytest.raises(StoreUnavailable, match=problem):
                    limiter.try_acquire("k")
                with pytest.raises(StoreUnavailable, match=problem):
                    await awaiting.try_acquire("k")


def test_an_event_loop_that_ends_closes_the_connection(own: OwnValkey, caplog: pytest.LogCaptureFixture) -> None:
    store = RedisStore(own.url, timeout=PATIENT, client_name="ended", connection_class=public_only)
    limiter = AsyncLimiter("1000/day", store=store, on_outage="raise")

    async def ask() -> bool:
        return bool(await limiter.try_acquire("k"))

    assert all(asyncio.run(ask()) for _ in range(3))
    with own.admin() as admin:
        eventually(lambda: "ended" not in [client["name"] for client in admin.client_list()], "all are closed")
    assert not caplog.records


# --- clients of the user's own ---


def test_a_client_that_does_not_tell_how_it_connects_is_refused_with_what_to_do() -> None:
    for client in (redis.Redis(), redis.asyncio.Redis()):
        for name in ("connection_class", "connection_kwargs"):
            pool = without(type(client.connection_pool), name)()
            problem = f"redis-py {redis.__version__} does not tell how it connects .*{name}.*: give the store a URL"
            with pytest.raises(InvalidUse, match=problem):
                RedisStore(client=type(client)(connection_pool=pool))


async def test_a_clusters_client_is_asked_for_its_nodes(
    cluster_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = cluster_url.replace("+cluster", "").partition(",")[0]
    hidden = ("nodes_manager", "user_on_connect_func")
    with without(RedisCluster, *hidden).from_url(url) as client:
        store = RedisStore(client=client, prefix=prefix, timeout=PATIENT)
        limiter = Limiter("9/hour", store=store, on_outage="raise")
        assert [limiter.try_acquire(f"k{number}").remaining for number in range(20)] == [8] * 20
        store.close()
    unconnected = without(AsyncRedisCluster, *hidden).from_url(url)
    with pytest.raises(InvalidUse, match=r"knows no node yet: await its initialize\(\)"):
        RedisStore(client=unconnected)
    async with unconnected as awaited:
        store = RedisStore(client=awaited, prefix=prefix, timeout=PATIENT)
        limiter_ = AsyncLimiter("9/hour", store=store, on_outage="raise")
        assert [(await limiter_.try_acquire(f"k{number}")).remaining for number in range(20)] == [7] * 20
        await store.aclose()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2
    assert all("does not tell the address_remap" in words for words in warned)


def test_only_two_modules_touch_names_that_others_may_change() -> None:
    names = r"\b(_sock|nodes_manager|connection_kwargs|connection_class|user_on_connect_func|_at_fork_reinit)\b"
    touching = [
        path.name for path in Path(headgate.__file__).parent.rglob("*.py") if re.search(names, path.read_text())
    ]
    assert sorted(touching) == ["clients.py", "library.py"]

"""The Redis and Valkey store: how it connects, with whose clients, from which threads, loops and processes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio
import redis.sentinel
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from headgate import (
    AsyncLimiter,
    Decision,
    InvalidKey,
    InvalidUse,
    Limiter,
    ManualClock,
    StoreOutage,
    StoreUnavailable,
)
from headgate.clock import system_clock
from headgate.stores.redis import RedisStore
from headgate.stores.redis.server import Server
from headgate.stores.remote import connections
from tests.faults.processes import run_in_processes
from tests.servers import OwnValkey, eventually, fake_server, greetings_only, own_valkey, silence, tls_front
from tests.striking import code_of, each_point

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""
FORGETFUL: dict[str, Any] = {"timeout": PATIENT, "remember_denials": 0, "on_outage": "raise"}
"""For tests in which each call is to reach the server."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@asynccontextmanager
async def closing(store: RedisStore) -> AsyncIterator[RedisStore]:
    try:
        yield store
    finally:
        await store.aclose()


async def answers(store: RedisStore, key: str = "k") -> tuple[Decision, Decision]:
    """Ask blocking and awaited."""
    blocking = Limiter("5/minute", store=store, on_outage="raise").try_acquire(key)
    awaited = await AsyncLimiter("5/minute", store=store, on_outage="raise").try_acquire(key)
    return blocking, awaited


async def share(store: RedisStore, key: str = "k") -> list[int]:
    """What remains after each of two requests on one counter, blocking and awaited."""
    return [decision.remaining for decision in await answers(store, key)]


def names(url: str) -> list[str]:
    """The names of the server's connections."""
    with redis.Redis.from_url(url, decode_responses=True) as admin:
        return [client["name"] for client in admin.client_list()]


# --- addresses ---


async def test_a_database_is_chosen_by_the_url(own: OwnValkey) -> None:
    for url in (f"redis://127.0.0.1:{own.port}/3", f"redis://127.0.0.1:{own.port}?db=3"):
        async with closing(RedisStore(url, timeout=PATIENT)) as store:
            await share(store, "db")
    async with closing(RedisStore(own.url, timeout=PATIENT)) as store:
        assert await share(store, "db") == [4, 3]
    with redis.Redis(port=own.port, db=3) as admin:
        assert admin.get("headgate:{db}:5/minute:tb") is not None


async def test_a_password_is_sent() -> None:
    with own_valkey() as server:
        with server.admin() as admin:
            admin.config_set("requirepass", "pa/ss word#1")
        good = [
            RedisStore(f"redis://:pa%2Fss%20word%231@127.0.0.1:{server.port}", timeout=PATIENT),
            RedisStore(f"redis://127.0.0.1:{server.port}", password="pa/ss word#1", timeout=PATIENT),
        ]
        for number, store in enumerate(good):
            async with closing(store):
                assert await share(store, str(number)) == [4, 3]
        for url in (f"redis://:wr0ng@127.0.0.1:{server.port}", f"redis://127.0.0.1:{server.port}"):
            async with closing(RedisStore(url, timeout=PATIENT)) as store:
                with pytest.raises(StoreUnavailable, match="refuses the user name or password: check") as caught:
                    Limiter("5/s", store=store, on_outage="raise").try_acquire("k")
                with pytest.raises(StoreUnavailable, match="refuses the user name or password: check") as awaited:
                    await AsyncLimiter("5/s", store=store, on_outage="raise").try_acquire("k")
                for error in (caught.value, awaited.value):
                    assert f"redis://127.0.0.1:{server.port}/0" in str(error)
                    assert "wr0ng" not in str(error)


async def test_a_user_of_an_access_list_is_let_in_with_few_rights() -> None:
    with own_valkey() as server:
        with server.admin() as admin:
            admin.execute_command(
                "ACL", "SETUSER", "gate", "on", ">s3cret", "resetkeys", "~app:*", "-@all", "+@scripting", "-script",
                "+time", "+get", "+mget", "+set", "+del", "+select",
            )  # fmt: skip
        url = f"redis://gate:s3cret@127.0.0.1:{server.port}"
        async with closing(RedisStore(url, prefix="app", timeout=PATIENT)) as store:
            assert await share(store) == [4, 3]
        async with closing(RedisStore(url, prefix="other", timeout=PATIENT)) as store:
            with pytest.raises(StoreUnavailable) as caught:
                Limiter("5/s", store=store, on_outage="raise").try_acquire("k")
            assert "s3cret" not in str(caught.value)
        with server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "gate", "-evalsha", "-eval")
        async with closing(RedisStore(url, prefix="app", timeout=PATIENT)) as store:
            with pytest.raises(StoreUnavailable, match=r"its user may not run EVALSHA: grant \+evalsha"):
                Limiter("5/s", store=store, on_outage="raise").try_acquire("k")


async def test_tls_is_spoken_and_the_certificate_is_checked(own: OwnValkey, tmp_path: Path) -> None:
    with tls_front(tmp_path, own.port) as (port, authority):
        for scheme in ("rediss", "valkeys"):
            url = f"{scheme}://localhost:{port}/0"
            trusting = RedisStore(url, timeout=PATIENT, ssl_ca_certs=str(authority))
            assert trusting.name == f"rediss://localhost:{port}/0"
            async with closing(trusting):
                assert await share(trusting, scheme) == [4, 3]
            async with closing(RedisStore(f"{url}?ssl_ca_certs={authority}", timeout=PATIENT)) as store:
                assert await share(store, scheme) == [2, 1]
            async with closing(RedisStore(url, timeout=PATIENT)) as store:
                with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                    Limiter("5/s", store=store, on_outage="raise").try_acquire("k")
                with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                    await AsyncLimiter("5/s", store=store, on_outage="raise").try_acquire("k")
        async with closing(RedisStore(f"redis://localhost:{port}", timeout=PATIENT)) as store:
            with pytest.raises(StoreOutage):  # plain words to a TLS server
                Limiter("5/s", store=store, on_outage="raise").try_acquire("k")


async def test_a_unix_socket_is_used(tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    with own_valkey(socket_path=str(path)):
        async with closing(RedisStore(f"unix://{path}?db=2", timeout=PATIENT)) as store:
            assert store.name == f"unix://{path}?db=2"
            assert await share(store) == [4, 3]
    async with closing(RedisStore(f"unix://{path}", timeout=PATIENT)) as store:
        with pytest.raises(StoreUnavailable, match=f"store unix://{path}.* cannot be reached"):
            Limiter("5/s", store=store, on_outage="raise").try_acquire("k")


async def test_prefixes_keep_applications_apart(own: OwnValkey) -> None:
    for prefix in ("one", "two", "one:two"):
        async with closing(RedisStore(own.url, prefix=prefix, timeout=PATIENT)) as store:
            assert await share(store, "prefix") == [4, 3]
    with own.admin() as admin:
        assert set(admin.keys("*{prefix}*")) == {
            f"{prefix}:{{prefix}}:5/minute:tb" for prefix in ("one", "two", "one:two")
        }
    async with AsyncLimiter("5/minute", store=own.url, prefix="one", timeout=PATIENT, on_outage="raise") as limiter:
        assert (await limiter.try_acquire("prefix")).remaining == 2


@pytest.mark.parametrize("prefix", ["", "{", "a}b", "\0", "p" * 1025])
def test_an_unusable_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        RedisStore(prefix=prefix)


@pytest.mark.parametrize("timeout", [0, -1, -0.5, math.nan, math.inf, "1", None, True])
def test_a_deadline_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidUse, match="timeout is a number of seconds above 0"):
        RedisStore(timeout=timeout)


def test_a_bound_on_connections_is_refused() -> None:
    with pytest.raises(InvalidUse, match="there is no pool to bound"):
        RedisStore(max_connections=5)


@pytest.mark.parametrize("seconds", [-1, -0.5, 61, math.nan, math.inf, "1", None, True])
def test_a_memory_of_denials_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidUse, match="remember_denials is a number of seconds from 0 to 60"):
        RedisStore(remember_denials=seconds)


# --- clients of the user's own ---


async def test_a_blocking_client_is_used_and_never_closed(own: OwnValkey) -> None:
    for decodes in (False, True):
        with redis.Redis(port=own.port, decode_responses=decodes, client_name="theirs", db=1) as client:
            client.ping()
            store = RedisStore(client=client, timeout=PATIENT, prefix=f"theirs{decodes}")
            assert store.name == f"redis://localhost:{own.port}/1"
            with Limiter("5/minute", store=store, on_outage="raise") as limiter:
                assert [limiter.try_acquire("k").remaining for _ in range(3)] == [4, 3, 2]
            store.close()
            await store.aclose()
            assert "theirs" in names(own.url)
            assert client.ping()
            assert client.keys(f"theirs{decodes}:*")
            with pytest.raises(InvalidUse, match="made from a blocking client: it serves Limiter only"):
                await AsyncLimiter("5/minute", store=store).try_acquire("k")


async def test_an_asyncio_client_is_used_and_never_closed(own: OwnValkey) -> None:
    for decodes in (False, True):
        async with redis.asyncio.Redis(port=own.port, decode_responses=decodes, client_name="awaited") as client:
            store = RedisStore(client=client, timeout=PATIENT, prefix=f"awaited{decodes}")
            async with AsyncLimiter("5/minute", store=store, on_outage="raise") as limiter:
                assert [(await limiter.try_acquire("k")).remaining for _ in range(3)] == [4, 3, 2]
            await client.ping()
            await store.aclose()
            store.close()
            assert "awaited" in names(own.url)
            assert await client.ping()
            with pytest.raises(InvalidUse, match="made from an asyncio client: it serves AsyncLimiter only"):
                Limiter("5/minute", store=store).try_acquire("k")


async def test_every_algorithm_works_with_a_client_that_decodes(own: OwnValkey) -> None:
    limits = ["5/minute", "fixed-window 5/minute", "sliding-window 5/minute", "sliding-log 5/minute", "concurrency 5"]
    with redis.Redis(port=own.port, decode_responses=True, encoding="latin-1") as client:
        store = RedisStore(client=client, timeout=PATIENT, prefix="dec")
        limiter = Limiter(limits, store=store, on_outage="raise")
        assert limiter.try_acquire("ключ").remaining == 4
        assert limiter.peek("ключ").remaining == 4
        store.close()
    async with closing(RedisStore(own.url, timeout=PATIENT, prefix="dec")) as store:
        assert Limiter(limits, store=store, on_outage="raise").peek("ключ").remaining == 4


def test_the_pool_of_a_client_of_theirs_is_left_alone(own: OwnValkey) -> None:
    with redis.Redis(port=own.port, max_connections=1, client_name="alone") as client:
        client.ping()
        (connection,) = client.connection_pool._available_connections
        store = RedisStore(client=client, timeout=PATIENT)
        assert Limiter("5/minute", store=store, on_outage="raise").try_acquire("left")
        assert names(own.url).count("alone") == 2
        store.close()
        assert names(own.url).count("alone") == 1
        assert client.connection_pool._available_connections == [connection]


def test_a_client_that_would_try_again_and_again_is_asked_once() -> None:
    with fake_server(silence) as mute:
        client = redis.Redis(port=mute.port, retry=Retry(ConstantBackoff(1), 100))
        limiter = Limiter("5/minute", store=RedisStore(client=client, timeout=0.1))
        assert limiter.try_acquire("k").source == "fail_open"
        assert mute.connections == 1


def test_a_client_keeps_its_own_shorter_deadline() -> None:
    with fake_server(greetings_only) as mute, redis.Redis(port=mute.port, socket_timeout=0.2, protocol=2) as client:
        limiter = Limiter("5/minute", store=RedisStore(client=client, timeout=1_000))
        assert limiter.try_acquire("k").source == "fail_open"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"client": redis.Redis(), "url": "redis://h"}, "a client or a URL with its options, not both"),
        ({"client": redis.Redis(), "socket_timeout": 5}, "a client or a URL with its options, not both"),
        ({"client": redis.Redis(), "password": "hunter2"}, "a client or a URL with its options, not both"),
        (
            {"client": object()},
            "client must be a redis.Redis or a redis.cluster.RedisCluster, .* or one of valkey's, not object",
        ),
        (
            {"client": "redis://h"},
            "client must be a redis.Redis or a redis.cluster.RedisCluster, .* or one of valkey's, not str",
        ),
    ],
)
def test_a_client_goes_alone(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidUse, match=problem):
        RedisStore(**options)


def test_what_is_no_client_is_refused_and_the_client_asked_for() -> None:
    blocking: Any = redis.Redis()
    awaited: Any = redis.asyncio.Redis()
    sentinels: Any = redis.sentinel.Sentinel
    itself = "give the client itself"
    things: list[tuple[Any, str]] = [
        (blocking.pipeline(), f"client is a Pipeline, which keeps what it is asked for later: {itself}"),
        (awaited.pipeline(), f"client is a Pipeline, .*: {itself}"),
        (blocking.pubsub(), f"not PubSub: {itself}"),
        (awaited.pubsub(), f"not PubSub: {itself}"),
        (blocking.connection_pool, r"not ConnectionPool: give a client of it, redis\.Redis\(connection_pool=\.\.\.\)"),
        (awaited.connection_pool, r"not ConnectionPool: give a client of it"),
        (blocking.lock("k"), "not Lock"),
        (sentinels([("h", 1)]), "not Sentinel"),
        (redis.Redis, "client must be a redis.Redis or"),
    ]
    for thing, problem in things:
        with pytest.raises(InvalidUse, match=problem):
            RedisStore(client=thing)


@pytest.mark.parametrize(
    "thing", [redis.Redis(), redis.Redis().pipeline(), b"redis://h", 5], ids=lambda thing: type(thing).__name__
)
def test_what_is_in_the_place_of_the_url_is_refused(thing: Any) -> None:
    with pytest.raises(
        InvalidUse, match=r"url is a str, not \w+: give a client by its name, RedisStore\(client=\.\.\.\)"
    ):
        RedisStore(thing)


# --- connections ---


def test_a_thousand_blocking_calls_need_one_connection(own: OwnValkey) -> None:
    with Limiter("5/minute", store=f"{own.url}?client_name=one", timeout=PATIENT, on_outage="raise") as limiter:
        for _ in range(1_000):
            limiter.try_acquire("k")
        assert names(own.url).count("one") == 1


async def test_an_event_loop_needs_one_connection(own: OwnValkey) -> None:
    for together in (True, False):
        store = RedisStore(own.url, timeout=PATIENT, client_name="bounded", prefix="bounded", coalesce=together)
        async with closing(store):
            awaiting = AsyncLimiter("10/day", store=store, on_outage="raise", name=str(together))
            decisions = await asyncio.gather(*(awaiting.try_acquire(f"a{number % 3}") for number in range(300)))
            assert sum(map(bool, decisions)) == 30
            assert names(own.url).count("bounded") == 1


def test_threads_may_begin_and_end_an_event_loop_for_each_call(own: OwnValkey) -> None:
    store = RedisStore(own.url, timeout=PATIENT, prefix="loops")
    limiter = AsyncLimiter("10_000/day", store=store, on_outage="raise")

    async def ask() -> Decision:
        decision = await limiter.try_acquire("k")
        await store.aclose()
        return decision

    def work(_: int) -> list[Decision]:
        return [asyncio.run(ask()) for _ in range(30)]

    with ThreadPoolExecutor(8) as threads:
        decisions = [decision for told in threads.map(work, range(8)) for decision in told]
    assert all(decisions)
    assert len(decisions) == 240


def test_a_store_may_be_closed_while_it_is_closed(own: OwnValkey) -> None:
    store = RedisStore(own.url, timeout=PATIENT, prefix="closing")
    limiter = Limiter("1/day; burst=5000", store=store, on_outage="raise")

    def work() -> None:
        limiter.try_acquire("k")
        store.close()

    for point in each_point():
        point.striking(work, code_of(connections), store.close)
        assert store._servers._pool._idle == deque()  # type: ignore[attr-defined]


def test_whatever_hinders_connecting_is_an_outage(own: OwnValkey) -> None:
    class Vault(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise RuntimeError("the vault is closed")

    hindrances: list[tuple[str, dict[str, Any]]] = [("redis://a..b/0", {}), (own.url, {"credential_provider": Vault()})]
    for url, options in hindrances:
        store = RedisStore(url, timeout=PATIENT, **options)
        assert Limiter("5/minute", store=store).try_acquire("k").source == "fail_open"


async def test_hundreds_of_tasks_at_once_are_all_answered_by_the_store(own: OwnValkey) -> None:
    async with AsyncLimiter(
        "100/day", store=own.url, prefix="tasks", timeout=PATIENT, remember_denials=0, on_outage="raise"
    ) as limiter:
        decisions = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(400)))
    assert {decision.source for decision in decisions} == {"store"}
    assert sum(map(bool, decisions)) == 100


def test_hundreds_of_threads_at_once_are_all_answered_by_the_store(own: OwnValkey) -> None:
    start = threading.Barrier(150)
    with Limiter(
        "100/day", store=own.url, prefix="threads", timeout=PATIENT, remember_denials=0, on_outage="raise"
    ) as limiter:

        def ask() -> list[Decision]:
            start.wait()
            return [limiter.try_acquire("k") for _ in range(4)]

        with ThreadPoolExecutor(150) as threads:
            decisions = [decision for asked in [threads.submit(ask) for _ in range(150)] for decision in asked.result()]
    assert {decision.source for decision in decisions} == {"store"}
    assert sum(map(bool, decisions)) == 100


@pytest.mark.parametrize("together", [True, False])
async def test_hundreds_of_slow_answers_at_once_are_waited_for(own: OwnValkey, together: bool) -> None:
    # While the server sleeps, nobody's answer comes, and everybody's question is under way.
    options: dict[str, Any] = {"coalesce": together, "remember_denials": 0}
    async with closing(RedisStore(own.url, prefix=f"slow-{together}", timeout=PATIENT, **options)) as store:
        blocking = Limiter("100/day", store=store, on_outage="raise")
        awaiting = AsyncLimiter("100/day", store=store, on_outage="raise")
        blocking.try_acquire("k")
        with own.admin() as admin, ThreadPoolExecutor(150) as threads:
            asleep = threading.Thread(target=admin.execute_command, args=("DEBUG", "SLEEP", "0.5"))
            asleep.start()
            asked = [threads.submit(blocking.try_acquire, "k") for _ in range(150)]
            awaited = await asyncio.gather(*(awaiting.try_acquire("k") for _ in range(150)))
            decisions = [future.result() for future in asked] + awaited
            asleep.join()
    assert {decision.source for decision in decisions} == {"store"}
    assert sum(map(bool, decisions)) == 99


def test_one_store_serves_many_event_loops_and_threads(own: OwnValkey) -> None:
    store = RedisStore(own.url, prefix="loops", timeout=PATIENT, client_name="loops")
    limiter = AsyncLimiter("100/day", store=store, on_outage="raise")
    blocking = Limiter("100/day", store=store, on_outage="raise")
    admitted: list[int] = []

    async def work() -> int:
        decisions = await asyncio.gather(*(limiter.try_acquire("k") for _ in range(20)))
        await store.aclose()
        return sum(map(bool, decisions))

    def in_a_loop_of_its_own() -> None:
        admitted.extend([asyncio.run(work()) for _ in range(3)])

    def without_a_loop() -> None:
        admitted.append(sum(bool(blocking.try_acquire("k")) for _ in range(20)))

    threads = [threading.Thread(target=target) for target in [in_a_loop_of_its_own] * 4 + [without_a_loop] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert len(admitted) == 4 * 3 + 4
    assert sum(admitted) == 100
    eventually(lambda: "loops" not in names(own.url), "all connections are closed")


def test_event_loops_that_come_and_go_leave_nothing_behind(own: OwnValkey) -> None:
    store = RedisStore(own.url, timeout=PATIENT, client_name="fleeting")
    limiter = AsyncLimiter("100/day", store=store, on_outage="raise")

    async def ask() -> None:
        await limiter.try_acquire("k")
        await store.aclose()

    for _ in range(10):
        asyncio.run(ask())
    eventually(lambda: "fleeting" not in names(own.url), "all connections are closed")


def test_a_loop_that_ended_without_a_farewell_disturbs_nobody(own: OwnValkey) -> None:
    program = f"""
import asyncio, headgate
from headgate.stores.redis import RedisStore
store = RedisStore("{own.url}", timeout=20)
limiter = headgate.AsyncLimiter("100/day", store=store, on_outage="raise")
async def ask():
    return (await limiter.try_acquire("k")).source
print([asyncio.run(ask()) for _ in range(3)])
store.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['store', 'store', 'store']\n"
    assert "Traceback" not in done.stderr


def test_a_limiter_that_goes_last_as_the_process_ends_says_nothing() -> None:
    program = """
import gc, headgate
def begin():
    gc.disable()
    limiter = headgate.AsyncLimiter("5/minute", store="redis://localhost:1", lease=True)
    def itself():
        return limiter, itself
begin()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


async def test_a_store_can_be_used_again_after_it_was_closed(own: OwnValkey) -> None:
    async with closing(RedisStore(own.url, prefix="again", timeout=PATIENT)) as store:
        for remains in ([4, 3], [2, 1]):
            assert await share(store) == remains
            await store.aclose()
            store.close()


def _in_a_forked_process(start: Any, url: str) -> tuple[bool, bytes, bool, int]:
    """Ask before, in and after a fork; both sides have connections of their own."""
    start.wait()
    store = RedisStore(url, prefix="fork", timeout=PATIENT, client_name="forked")
    limiter = Limiter("1000/day", store=store, on_outage="raise")
    awaiting = AsyncLimiter("1000/day", store=store, on_outage="raise")

    async def ask() -> bool:
        answers = [bool(await awaiting.try_acquire("k")) for _ in range(50)]
        await store.aclose()
        return all(answers)

    limiter.try_acquire("k")
    with limiter_holding(store) as parent_slot:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                good = all(limiter.try_acquire("k") for _ in range(200)) and asyncio.run(ask())
                slots = Limiter("concurrency 9; ttl=300ms", store=store, on_outage="raise")
                with slots.hold("child") as hold:
                    os.write(write, b"+" if good and not hold.is_lost else b"-")
                    # Only our own slot is ours to renew: the parent will have released its own by now.
                    threading.Event().wait(0.8)
                    os.write(write, b"+" if not hold.is_lost else b"-")
            except BaseException:
                logging.exception("in the child")
                os.write(write, b"!!")
            os._exit(0)
        good = all(limiter.try_acquire("k") for _ in range(200)) and asyncio.run(ask())
    os.close(write)
    told = b""
    while chunk := os.read(read, 10):
        told += chunk
    os.waitpid(child, 0)
    return good, told, parent_slot.is_lost, limiter.peek("k", 0).remaining


def limiter_holding(store: RedisStore) -> Any:
    """A slot of the parent's."""
    return Limiter("concurrency 9; ttl=300ms", store=store, on_outage="raise").hold("parent")


def test_a_forked_process_has_connections_of_its_own(own: OwnValkey) -> None:
    # In a fresh process: one with threads, as ours, is not to be forked.
    ((good, told, is_lost, remains),) = run_in_processes([(_in_a_forked_process, (own.url,))])
    assert good
    assert told == b"++"
    assert not is_lost
    assert remains == 1000 - 1 - 2 * 250


def _forked_renewers(start: Any, url: str) -> str:
    """Fork while a slot is held, and hold one in the child; tell whether the child renews the parent's."""
    start.wait()
    store = RedisStore(url, prefix="renewers", timeout=PATIENT)
    limiter = Limiter("concurrency 9; ttl=300ms", store=store, on_outage="raise")
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("headgate").addHandler(handler)
    read, write = os.pipe()
    with limiter.hold("parent"):
        child = os.fork()
        if child == 0:
            records.clear()
            with limiter.hold("child"):
                threading.Event().wait(1)
            os.write(write, "\n".join(records).encode() or b"quiet")
            os._exit(0)
    os.close(write)
    is_told, _, _ = select.select([read], [], [], 30)
    told = os.read(read, 10_000) if is_told else b"the child hangs"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return told.decode()


def test_a_forked_process_does_not_renew_what_its_parent_holds(own: OwnValkey) -> None:
    assert run_in_processes([(_forked_renewers, (own.url,))]) == ["quiet"]


# --- clocks and scripts ---


async def test_the_servers_clock_counts_and_not_ours(own: OwnValkey) -> None:
    async with closing(RedisStore(own.url, timeout=PATIENT)) as store:
        with own.admin() as admin:
            for decide in await answers(store, "clock"):
                seconds, microseconds = admin.time()
                assert 0 <= seconds * 1_000_000 + microseconds - decide.now_us < PATIENT * 1_000_000


async def test_a_calendar_window_is_found_though_our_clock_is_wrong(own: OwnValkey, monkeypatch: Any) -> None:
    for days in (-400, -1, 1, 400):
        monkeypatch.setattr(
            "headgate.stores.remote.terms.system_clock", lambda days=days: system_clock() + days * 86_400_000_000
        )
        async with closing(RedisStore(own.url, prefix=f"wrong{days}", timeout=PATIENT)) as store:
            limiter = Limiter("fixed-window 5/day; tz=Europe/Berlin", store=store, on_outage="raise")
            assert [limiter.try_acquire("k").remaining for _ in range(3)] == [4, 3, 2]
            awaiting = AsyncLimiter("fixed-window 5/month", store=store, on_outage="raise")
            assert [(await awaiting.try_acquire("k")).remaining for _ in range(3)] == [4, 3, 2]


async def test_a_batch_on_both_sides_of_a_midnight_is_decided(own: OwnValkey) -> None:
    clock = ManualClock()
    async with closing(RedisStore(own.url, prefix="midnight", timeout=PATIENT)) as store:
        store.use_clock(clock)
        limiter = Limiter({"day": "fixed-window 5/day; tz=Asia/Kathmandu", "rate": "9/minute"}, store=store)
        keys = {"day": "k", "rate": "k"}
        for _ in range(3):
            assert limiter.try_acquire(keys).source == "store"
            clock.advance(seconds=86_400)


async def test_scripts_are_sent_once_and_by_their_digest_from_then_on(own: OwnValkey) -> None:
    async with closing(RedisStore(own.url, timeout=PATIENT)) as store:
        limiter = Limiter(["500/minute", "sliding-log 500/hour", "concurrency 9"], store=store, on_outage="raise")
        limiter.try_acquire("k")
        with own.admin() as admin:
            admin.config_resetstat()
        for _ in range(20):
            limiter.try_acquire("k", 2)
        calls = own.calls()
        assert calls["evalsha"] == 20
        assert calls["eval"] == calls["script|load"] == calls["keys"] == calls["scan"] == 0


async def test_a_server_that_forgot_the_scripts_is_told_them_again(own: OwnValkey) -> None:
    async with closing(RedisStore(own.url, prefix="flush", timeout=PATIENT)) as store:
        with own.admin() as admin:
            for remains in ([4, 3], [2, 1]):
                admin.script_flush()
                assert await share(store) == remains


async def test_one_key_of_another_type_fails_alone(own: OwnValkey) -> None:
    async with closing(RedisStore(own.url, prefix="type", timeout=PATIENT)) as store:
        with own.admin() as admin:
            admin.rpush("type:{bad}:5/minute:tb", "not a bucket")
        awaiting = AsyncLimiter("5/minute", store=store, on_outage="raise")
        keys = ["good", "bad", "better", "good"] * 5
        told = await asyncio.gather(*(awaiting.try_acquire(key) for key in keys), return_exceptions=True)
        for key, answer in zip(keys, told, strict=True):
            assert isinstance(answer, StoreUnavailable if key == "bad" else Decision)
        assert Limiter("5/minute", store=store).peek("better", 0).remaining == 0
        assert sum(bool(answer) for key, answer in zip(keys, told, strict=True) if key == "good") == 5


def test_an_interrupt_between_question_and_answer_does_not_shift_the_answers(own: OwnValkey, monkeypatch: Any) -> None:
    class Interruption(BaseException):
        pass

    def interrupt(self: Any, *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        raise Interruption

    with Limiter("1000/day", store=own.url, prefix="shift", timeout=PATIENT, on_outage="raise") as limiter:
        limiter.try_acquire("a", 100)
        interrupted = SimpleNamespace(Reader=lambda: SimpleNamespace(feed=interrupt), ReplyError=hiredis.ReplyError)
        monkeypatch.setattr("headgate.stores.redis.connections.hiredis", interrupted)
        store = limiter._store
        assert isinstance(store, RedisStore)
        assert isinstance(store._servers, Server)
        store._servers._pool.close()
        with pytest.raises(Interruption):
            limiter.try_acquire("a", 100)
        for _ in range(5):
            assert limiter.try_acquire("b", 10).key == "b"
        assert limiter.peek("b", 0).remaining == 950
        assert limiter.peek("a", 0).remaining in (800, 900)


async def test_a_cancelled_question_does_not_shift_the_answers(own: OwnValkey) -> None:
    async with AsyncLimiter("1000/day", store=own.url, prefix="cut", timeout=PATIENT, on_outage="raise") as limiter:
        await limiter.try_acquire("a")
        for pause in [0.0] * 20 + [0.000_1 * number for number in range(20)]:
            task = asyncio.create_task(limiter.try_acquire("a", 10))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            asked = await limiter.try_acquire("b")
            assert asked.key == "b"
        assert (await limiter.peek("b", 0)).remaining == 960


async def test_a_connection_that_was_killed_while_idle_is_replaced_without_a_word(
    own: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with closing(RedisStore(own.url, prefix="killed", timeout=PATIENT, client_name="killed")) as store:
        with own.admin() as admin:
            for remains in ([4, 3], [2, 1]):
                assert await share(store) == remains
                for client in admin.client_list():
                    if client["name"] == "killed":
                        admin.client_kill_filter(_id=client["id"])
                await asyncio.sleep(0.05)  # the news has to reach the event loop
    assert not caplog.records

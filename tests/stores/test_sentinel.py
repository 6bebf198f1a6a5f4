"""The Redis store by Sentinel: how it is named, who is asked and with which rights, and the errors that say what to
check. What happens when a primary fails is tested in tests/faults/test_sentinel.py.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel
import valkey.asyncio.sentinel
import valkey.sentinel

from headgate import AsyncLimiter, InvalidUse, Limiter, StoreUnavailable, StoreURLError
from headgate.plans.topology import Address
from headgate.stores.redis import RedisStore
from headgate.stores.redis.address import split_sentinels
from tests.faults.processes import run_in_processes
from tests.faults.workers import hammer_with_tasks, hammer_with_threads
from tests.sentinels import SERVICE, OwnSentinels, own_sentinels
from tests.servers import fake_server, free_port

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnSentinels]:
    with own_sentinels() as started:
        yield started


@asynccontextmanager
async def on(url: str, **options: Any) -> AsyncIterator[tuple[RedisStore, Limiter, AsyncLimiter]]:
    """A store, and limiters in both colours on it."""
    store = RedisStore(url, **{"timeout": PATIENT, "remember_denials": 0, **options})
    blocking = Limiter("1000/day", store=store, on_outage="raise", name="both")
    yield store, blocking, AsyncLimiter("1000/day", store=store, on_outage="raise", name="both")
    await store.aclose()


async def problem_of(url: str, **options: Any) -> str:
    """What the outage says, the same in both colours."""
    said = []
    async with on(url, **options) as (_, blocking, awaited):
        with pytest.raises(StoreUnavailable) as caught:
            blocking.try_acquire("k")
        said.append(str(caught.value))
    async with on(url, **options) as (_, blocking, awaited):
        with pytest.raises(StoreUnavailable) as caught:
            await awaited.try_acquire("k")
        said.append(str(caught.value))
    assert said[0].split("(Error ")[0] == said[1].split("(Error ")[0]  # but for what redis-py says
    return said[0]


# --- the URL ---


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_a_url_names_sentinels_a_service_and_perhaps_a_database(scheme: str) -> None:
    told = split_sentinels(f"{scheme}+sentinel://me:s%40crt@h1:7000,h2,[::1]:7001/my%2Fservice/3", {})
    assert told.sentinels == [Address("h1", 7000), Address("h2", 26379), Address("::1", 7001)]
    assert told.service == "my/service"
    assert told.url == f"{scheme}://me:s%40crt@h1:7000/3?"
    secure = "rediss" if scheme in ("rediss", "valkeys") else "redis"
    store = RedisStore(f"{scheme}+sentinel://me:secret@h1,h2/limits")
    assert repr(store) == f"<RedisStore {secure}+sentinel://h1:26379,h2:26379/limits/0>"


@pytest.mark.parametrize("rest", ["h1", "h1/", "h1//0", "h1/limits/x", "h1/limits/0/1", "h1/limits/-1"])
def test_a_url_without_a_service_or_with_a_strange_database_is_refused(rest: str) -> None:
    with pytest.raises(StoreURLError, match="its path is the name of the service that the sentinels watch"):
        RedisStore(f"redis+sentinel://{rest}")


def test_what_is_for_the_sentinels_is_told_apart() -> None:
    url = "rediss+sentinel://me:secret@h/limits?ssl_ca_certs=/ca&sentinel_password=a%26b&socket_keepalive=yes"
    told = split_sentinels(url, {"ssl_certfile": "/mine", "sentinel_ssl_certfile": "/other", "client_name": "n"})
    assert told.url == "rediss://me:secret@h/?ssl_ca_certs=%2Fca&socket_keepalive=yes"
    assert told.options == {"ssl_certfile": "/mine", "client_name": "n"}
    assert told.sentinel_url == "rediss://h?ssl_ca_certs=%2Fca&socket_keepalive=yes&password=a%26b"
    assert told.sentinel_options == {"ssl_certfile": "/other"}


@pytest.mark.parametrize("options", [{"sentinel_ssl": False}, {"sentinel_ssl": "no"}])
def test_sentinels_may_speak_no_tls_though_the_servers_do(options: dict[str, Any]) -> None:
    told = split_sentinels("rediss+sentinel://h/limits?ssl_ca_certs=/ca", {"ssl_certfile": "/mine", **options})
    assert (told.sentinel_url, told.sentinel_options) == ("redis://h?", {})
    assert split_sentinels("rediss+sentinel://h/limits?sentinel_ssl=false", {}).sentinel_url == "redis://h?"


@pytest.mark.parametrize("options", [{"sentinel_pasword": "x"}, {"pasword": "x"}])
def test_an_option_that_nobody_knows_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StoreURLError, match="pasword"):
        RedisStore("redis+sentinel://h/limits", **options)


# --- who asks ---


async def test_threads_tasks_and_loops_count_on_the_same_primary(own: OwnSentinels) -> None:
    async with on(own.url, prefix="all") as (store, blocking, awaited):
        with ThreadPoolExecutor(4) as threads:
            seen = [decision.remaining for decision in threads.map(blocking.try_acquire, ["k"] * 40)]

        async def ask() -> list[int]:
            told = [
                decision.remaining for decision in await asyncio.gather(*(awaited.try_acquire("k") for _ in range(40)))
            ]
            await store.close_loop()
            return told

        seen += await ask()
        with ThreadPoolExecutor(1) as thread:
            seen += thread.submit(lambda: asyncio.run(ask())).result()
        assert sorted(seen) == [*range(880, 1000)]
        with own.primary().admin() as admin:
            assert len(admin.keys("all:*")) == 1


def test_processes_count_on_the_same_primary(own: OwnSentinels) -> None:
    work = [
        (hammer_with_threads, (own.url, "many", "100/day", 2, 1.0)),
        (hammer_with_tasks, (own.url, "many", "100/day", 8, 1.0)),
    ]
    crowd = run_in_processes(work)
    assert sum(len(seen.admitted) for seen in crowd) == 100


def _in_a_forked_process(start: Barrier, url: str) -> list[int]:
    store = RedisStore(url, prefix="forked", timeout=PATIENT)
    limiter = Limiter("9/day", store=store, name="n", on_outage="raise")
    seen = [limiter.try_acquire("k").remaining]
    receiving, sending = os.pipe()
    if os.fork() == 0:
        store._servers._succession.failed()  # type: ignore[attr-defined]  # it has to ask the sentinels, too
        os.write(sending, bytes([limiter.try_acquire("k").remaining]))
        os._exit(0)
    start.wait()
    seen += os.read(receiving, 1)
    os.wait()
    return [*seen, limiter.try_acquire("k").remaining]


def test_a_fork_is_survived(own: OwnSentinels) -> None:
    assert run_in_processes([(_in_a_forked_process, (own.url,))]) == [[8, 7, 6]]


def test_a_store_by_sentinel_can_be_pickled(own: OwnSentinels) -> None:
    store = RedisStore(own.url, prefix="moved", timeout=PATIENT)
    assert Limiter("9/day", store=store, name="n", on_outage="raise").try_acquire("k").remaining == 8
    copied = pickle.loads(pickle.dumps(store))
    assert Limiter("9/day", store=copied, name="n", on_outage="raise").try_acquire("k").remaining == 7
    store.close()
    copied.close()


async def test_groups_of_several_keys_are_one_script(own: OwnSentinels) -> None:
    async with on(own.url, prefix="tiers") as (store, _, _):
        tiers = Limiter({"user": "2/day", "all": "3/day"}, store=store, on_outage="raise", name="tiers")
        with own.primary().admin() as admin:
            admin.config_resetstat()
        assert [bool(tiers.try_acquire({"user": user, "all": "*"})) for user in "aaabb"] == [
            True, True, False, True, False,
        ]  # fmt: skip
        calls = own.primary().calls()
        assert calls["evalsha"] == 5
        assert calls["eval"] <= 1  # if it had to be sent


async def test_the_database_is_the_one_of_the_url(own: OwnSentinels) -> None:
    url = f"{own.url.removesuffix('/0')}/5"
    async with on(url, prefix="db") as (_, blocking, awaited):
        assert blocking.try_acquire("k").remaining == 999
        assert (await awaited.try_acquire("k")).remaining == 998
    with own.primary().admin(db=5) as admin:
        assert len(admin.keys("db:*")) == 1


async def test_a_sentinel_that_hangs_or_is_gone_is_left_out(own: OwnSentinels) -> None:
    with fake_server(lambda _: None) as silent:
        hosts = f"127.0.0.1:{silent.port},127.0.0.1:{free_port()},{own.hosts}"
        async with on(f"redis+sentinel://{hosts}/{SERVICE}", timeout=1, prefix="left") as (_, blocking, _):
            assert blocking.try_acquire("k").remaining == 999
        async with on(f"redis+sentinel://{hosts}/{SERVICE}", timeout=1, prefix="left") as (_, _, awaited):
            assert (await awaited.try_acquire("k")).remaining == 998


async def test_addresses_may_be_mapped(own: OwnSentinels) -> None:
    told: list[Any] = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        told.append(tuple(address))
        return "localhost", address[1]

    async with on(own.url, prefix="mapped", address_remap=remap) as (store, blocking, _):
        assert blocking.try_acquire("k").remaining == 999
        assert told == [("127.0.0.1", own.primary().port)]
        assert f"redis://localhost:{told[0][1]}/0" in {endpoint.name for endpoint in store._servers.endpoints()}


# --- errors ---


async def test_when_no_sentinel_answers_the_error_says_so() -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}"
    problem = await problem_of(url)
    assert "no sentinel answers: check their addresses, and that they run. The last was sentinel 127.0.0.1:" in problem
    assert "it cannot be reached" in problem


async def test_a_service_that_the_sentinels_do_not_know_is_named(own: OwnSentinels) -> None:
    problem = await problem_of(f"redis+sentinel://{own.hosts}/others")
    assert "the sentinels do not know the service 'others': check its name in the URL" in problem
    assert "(MasterNotFoundError)" in problem


async def test_a_server_in_place_of_a_sentinel_is_told_apart(own: OwnSentinels) -> None:
    problem = await problem_of(f"redis+sentinel://127.0.0.1:{own.primary().port}/{SERVICE}")
    assert "it is no sentinel: check the port in the URL, which mostly is 26379" in problem


async def test_a_sentinel_in_place_of_a_server_is_told_apart(own: OwnSentinels) -> None:
    problem = await problem_of(f"redis://127.0.0.1:{own.sentinels[0].port}")
    assert "if it is a sentinel, write redis+sentinel://host:port/service in the URL" in problem


async def test_a_replica_that_a_sentinel_takes_for_the_primary_is_not_asked(own: OwnSentinels) -> None:
    port = own.replica().port

    def remap(_: object) -> tuple[str, int]:
        return "127.0.0.1", port

    problem = await problem_of(own.url, address_remap=remap)
    assert f"redis://127.0.0.1:{port}/0: it is a replica now (READONLY)" in problem


async def test_users_and_passwords_are_told_apart_and_kept_secret() -> None:
    lines = ("requirepass guarded",)
    with own_sentinels(sentinel_lines=lines, password="guarded", server_password="se%cret") as own:
        url = f"redis+sentinel://:se%25cret@{own.hosts}/{SERVICE}"
        async with on(url, sentinel_password="guarded") as (store, blocking, awaited):
            assert blocking.try_acquire("k").remaining == 999
            assert (await awaited.try_acquire("k")).remaining == 998
            assert "cret" not in repr(store)
        async with on(f"{url}?sentinel_password=guarded") as (_, blocking, _):
            assert blocking.try_acquire("k").remaining == 997
        for told in ({}, {"sentinel_password": "wr0ng"}):
            problem = await problem_of(url, **told)
            assert "check sentinel_username and sentinel_password" in problem
            assert "wr0ng" not in problem
        problem = await problem_of(own.url, sentinel_password="guarded")
        assert "refuses the user name or password" in problem
        assert "sentinel_password" not in problem


# --- clients of the user's own ---

HOSTS = "127.0.0.1"


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
async def test_the_client_of_a_service_is_accepted_and_left_alone(own: OwnSentinels, library: Any) -> None:
    places = [(HOSTS, sentinel.port) for sentinel in own.sentinels]
    prefix = f"theirs-{library.__name__}"
    blocking = library.sentinel.Sentinel(places).master_for(SERVICE, client_name="theirs", db=2)
    store = RedisStore(client=blocking, prefix=prefix, timeout=PATIENT)
    assert store.name == f"redis+sentinel://{own.hosts}/{SERVICE}/2"
    limiter = Limiter("9/day", store=store, name="n", on_outage="raise")
    assert [limiter.try_acquire("k").remaining for _ in range(3)] == [8, 7, 6]
    with own.primary().admin() as admin:
        assert "theirs" in {client["name"] for client in admin.client_list()}
    with pytest.raises(InvalidUse, match="made from a blocking client"):
        await AsyncLimiter("9/day", store=store).try_acquire("k")
    store.close()
    assert blocking.ping()
    blocking.close()

    sentinels = library.asyncio.sentinel.Sentinel(places)
    awaited = sentinels.master_for(SERVICE, db=2)
    store = RedisStore(client=awaited, prefix=prefix, timeout=PATIENT)
    limiter_ = AsyncLimiter("9/day", store=store, name="n", on_outage="raise")
    assert [(await limiter_.try_acquire("k")).remaining for _ in range(2)] == [5, 4]
    with pytest.raises(InvalidUse, match="made from an asyncio client"):
        Limiter("9/day", store=store, on_outage="raise").try_acquire("k")
    await store.aclose()
    assert await awaited.ping()
    for client in (awaited, *sentinels.sentinels):
        await client.aclose()


def test_a_client_that_reaches_the_primary_at_another_address_is_followed(own: OwnSentinels) -> None:
    sentinels: Any = redis.sentinel.Sentinel
    places = [(HOSTS, sentinel.port) for sentinel in own.sentinels]
    client = sentinels(places, force_master_ip="localhost").master_for(SERVICE)
    store = RedisStore(client=client, prefix="forced", timeout=PATIENT)
    assert Limiter("9/day", store=store, name="n", on_outage="raise").try_acquire("k").remaining == 8
    assert f"redis://localhost:{own.primary().port}/0" in {endpoint.name for endpoint in store._servers.endpoints()}
    store.close()


@pytest.mark.parametrize("library", [redis, valkey], ids=["redis-py", "valkey-py"])
def test_a_client_of_replicas_or_the_sentinels_themselves_are_refused(library: Any) -> None:
    for sentinels in (library.sentinel.Sentinel([(HOSTS, 1)]), library.asyncio.sentinel.Sentinel([(HOSTS, 1)])):
        with pytest.raises(InvalidUse, match=r"not Sentinel: give its client of a service, sentinel\.master_for"):
            RedisStore(client=sentinels)
        with pytest.raises(InvalidUse, match=r"asks the replicas .* give sentinel\.master_for"):
            RedisStore(client=sentinels.slave_for(SERVICE))


def test_a_client_that_does_not_tell_its_sentinels_is_refused() -> None:
    sentinels: Any = redis.sentinel.Sentinel
    client = sentinels([(HOSTS, 1)]).master_for(SERVICE)
    del client.connection_pool.sentinel_manager
    with pytest.raises(InvalidUse, match=r"does not tell how it connects .*sentinel_manager"):
        RedisStore(client=client)

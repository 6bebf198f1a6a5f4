"""Clients of valkey-py are accepted like those of redis-py. Those of Sentinel are tested in test_sentinel.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkey
import valkey.asyncio
import valkey.asyncio.cluster
import valkey.cluster

from headgate import AsyncLimiter, InvalidUse, Limiter, StoreUnavailable
from headgate.stores.redis import RedisStore
from tests.clusters import OwnCluster, own_cluster
from tests.servers import OwnValkey, own_valkey, tls_front

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as started:
        yield started


def limiter(client: Any, prefix: str) -> Limiter:
    store = RedisStore(client=client, prefix=prefix, timeout=PATIENT)
    return Limiter("5/minute", store=store, name="n", on_outage="raise")


def awaited_limiter(client: Any, prefix: str) -> AsyncLimiter:
    store = RedisStore(client=client, prefix=prefix, timeout=PATIENT)
    return AsyncLimiter("5/minute", store=store, name="n", on_outage="raise")


def names(server: OwnValkey) -> set[str]:
    with server.admin() as admin:
        return {client["name"] for client in admin.client_list()}


async def test_clients_are_used_and_left_alone(own: OwnValkey) -> None:
    with valkey.Valkey(port=own.port, db=1, client_name="theirs", decode_responses=True) as client:
        asks = limiter(client, "both")
        assert repr(asks._store) == f"<RedisStore redis://localhost:{own.port}/1>"
        assert [asks.try_acquire("k").remaining for _ in range(2)] == [4, 3]
        assert "theirs" in names(own)
        asks._store.close()
        assert client.ping()
    async with valkey.asyncio.Valkey(port=own.port, db=1, client_name="awaited") as awaited:
        asks_ = awaited_limiter(awaited, "both")
        assert [(await asks_.try_acquire("k")).remaining for _ in range(2)] == [2, 1]
        assert "awaited" in names(own)
        await asks_._store.aclose()
        assert await awaited.ping()


async def test_each_serves_limiters_of_its_own_kind(own: OwnValkey) -> None:
    with valkey.Valkey(port=own.port) as client:
        store = RedisStore(client=client, timeout=PATIENT)
        with pytest.raises(InvalidUse, match="made from a blocking client"):
            await AsyncLimiter("5/s", store=store).try_acquire("k")
    async with valkey.asyncio.Valkey(port=own.port) as awaited:
        store = RedisStore(client=awaited, timeout=PATIENT)
        with pytest.raises(InvalidUse, match="made from an asyncio client"):
            Limiter("5/s", store=store).try_acquire("k")


async def test_clients_of_a_cluster_know_its_nodes(cluster: OwnCluster) -> None:
    port = cluster.primaries[0].port
    keys = [cluster.key_at(node) for node in cluster.primaries]
    with valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port) as client:
        asks = limiter(client, "cluster")
        assert [asks.try_acquire(key).remaining for key in keys] == [4, 4, 4]
        asks._store.close()
    async with valkey.asyncio.cluster.ValkeyCluster(host="127.0.0.1", port=port) as awaited:
        asks_ = awaited_limiter(awaited, "cluster")
        assert [(await asks_.try_acquire(key)).remaining for key in keys] == [3, 3, 3]
        await asks_._store.aclose()


async def test_users_passwords_and_those_who_provide_them_are_taken_over() -> None:
    with own_valkey() as server:
        with server.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "gate", "on", ">s3cret", "~*", "+@all")
            admin.execute_command("ACL", "SETUSER", "default", "off")
        told: list[dict[str, Any]] = [
            {"username": "gate", "password": "s3cret"},
            {"credential_provider": valkey.UsernamePasswordCredentialProvider("gate", "s3cret")},
        ]
        for number, options in enumerate(told):
            with valkey.Valkey(port=server.port, **options) as client:
                asks = limiter(client, "users")
                assert asks.try_acquire("k").remaining == 4 - 2 * number
                asks._store.close()
            async with valkey.asyncio.Valkey(port=server.port, **options) as awaited:
                asks_ = awaited_limiter(awaited, "users")
                assert (await asks_.try_acquire("k")).remaining == 3 - 2 * number
                await asks_._store.aclose()
        with valkey.Valkey(port=server.port, username="gate", password="wr0ng") as client:
            with pytest.raises(StoreUnavailable, match="refuses the user name or password") as caught:
                limiter(client, "users").try_acquire("k")
            assert "wr0ng" not in str(caught.value)


async def test_sockets_and_tls_are_taken_over(own: OwnValkey, tmp_path: Path) -> None:
    path = str(tmp_path / "valkey.sock")
    with own_valkey(socket_path=path), valkey.Valkey(unix_socket_path=path) as client:
        asks = limiter(client, "socket")
        assert asks.try_acquire("k").remaining == 4
        asks._store.close()
    with tls_front(tmp_path, own.port) as (port, authority):
        told: dict[str, Any] = {"host": "localhost", "port": port, "ssl": True, "ssl_ca_certs": str(authority)}
        with valkey.Valkey(**told) as client:
            asks = limiter(client, "tls")
            assert asks.try_acquire("k").remaining == 4
            asks._store.close()
        async with valkey.asyncio.Valkey(**told) as awaited:
            asks_ = awaited_limiter(awaited, "tls")
            assert (await asks_.try_acquire("k")).remaining == 3
            await asks_._store.aclose()
        distrustful = valkey.Valkey(host="localhost", port=port, ssl=True)
        with pytest.raises(StoreUnavailable, match="its certificate is not trusted"):
            limiter(distrustful, "tls").try_acquire("k")


def test_what_a_client_does_on_connecting_is_done(own: OwnValkey) -> None:
    def on_connect(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", "greeted")
        connection.read_response()

    connections = valkey.ConnectionPool(port=own.port, valkey_connect_func=on_connect)
    asks = limiter(valkey.Valkey(connection_pool=connections), "greeted")
    assert asks.try_acquire("k").remaining == 4
    assert "greeted" in names(own)
    asks._store.close()


def test_what_is_no_client_or_connects_in_a_way_of_its_own_is_refused(own: OwnValkey) -> None:
    class Connection(valkey.Connection):
        pass

    client: Any = valkey.Valkey(port=own.port)
    pools: Any = valkey.ConnectionPool
    things: list[tuple[Any, str]] = [
        (client.pipeline(), "client is a Pipeline, which keeps what it is asked for later: give the client itself"),
        (client.pubsub(), "not PubSub: give the client itself"),
        (client.connection_pool, "not ConnectionPool: give a client of it"),
        (
            valkey.Valkey(connection_pool=pools(connection_class=Connection, port=own.port)),
            "connects by a class of its own, .*Connection, of which redis-py knows nothing: give the store a URL",
        ),
    ]
    for thing, problem in things:
        with pytest.raises(InvalidUse, match=problem):
            RedisStore(client=thing)


def test_clients_of_redis_py_need_no_valkey_py(own: OwnValkey) -> None:
    program = (
        "import redis, sys\n"
        "from headgate import Limiter\n"
        "from headgate.stores.redis import RedisStore\n"
        f"store = RedisStore(client=redis.Redis(port={own.port}), timeout=20)\n"
        "Limiter('5/s', store=store, on_outage='raise').try_acquire('k')\n"
        "assert 'valkey' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_both_libraries_may_be_used_side_by_side(own: OwnValkey) -> None:
    with redis.Redis(port=own.port) as one, valkey.Valkey(port=own.port) as other:
        asks = [limiter(one, "side"), limiter(other, "side")]
        assert [ask.try_acquire("k").remaining for ask in asks] == [4, 3]
        for ask in asks:
            ask._store.close()

"""Store URLs: which store they name, and that none of what is secret in them is ever shown."""

from __future__ import annotations

from typing import Any

import pytest

from headgate import Limiter, MemoryStore, Store, StoreURLError
from headgate.plans.topology import Address
from headgate.stores.redis import RedisStore
from headgate.stores.registry import open_store
from headgate.stores.remote import Cluster


def test_memory_is_a_store_of_its_own_each_time() -> None:
    one, other = open_store("memory://"), open_store("MEMORY://")
    assert isinstance(one, MemoryStore)
    assert isinstance(other, MemoryStore)
    assert one is not other


@pytest.mark.parametrize("rest", ["x", "localhost", "/", "?a=1"])
def test_memory_takes_nothing_behind_it(rest: str) -> None:
    with pytest.raises(StoreURLError, match="memory:// takes nothing behind it"):
        open_store(f"memory://{rest}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://localhost:6380/3", "redis://localhost:6380/3"),
        ("REDIS://LOCALHOST:6380", "redis://localhost:6380/0"),
        ("redis://localhost?db=4", "redis://localhost:6379/4"),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1"),
        ("rediss://cache.example:6390/2", "rediss://cache.example:6390/2"),
        ("valkey://localhost:6380/3", "redis://localhost:6380/3"),
        ("valkeys://localhost:6380/3", "rediss://localhost:6380/3"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis://:secret@localhost:6380/3", "redis://localhost:6380/3"),
        ("redis://me:secret@localhost:6380/3", "redis://localhost:6380/3"),
        ("redis://localhost:6380/3?password=secret&username=me", "redis://localhost:6380/3"),
        ("unix://me:secret@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis+cluster://node", "redis+cluster://node:6379"),
        ("REDIS+CLUSTER://node:7000,other", "redis+cluster://node:7000,other:6379"),
        ("valkeys+cluster://node:7000", "rediss+cluster://node:7000"),
        ("redis+cluster://[::1]:7000,[::2]", "redis+cluster://[::1]:7000,[::2]:6379"),
        ("redis+cluster://:secret@node:7000,other:7001/0", "redis+cluster://node:7000,other:7001"),
        ("redis+cluster://me:sec@ret,@node?password=secret", "redis+cluster://node:6379"),
    ],
)
def test_a_server_is_named_without_its_password(url: str, name: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert isinstance(store, Store)
    assert store.name == name
    assert repr(store) == f"<RedisStore {name}>"
    for text in (repr(store), str(store), repr(Limiter("5/s", store=store))):
        assert "secret" not in text
        assert "me:" not in text


@pytest.mark.parametrize(
    ("url", "option", "value"),
    [
        ("redis://:s%2Fecret@h", "password", "s/ecret"),
        ("redis://us%40er:p%3Aw@h", "username", "us@er"),
        ("redis://h/7", "db", 7),
        ("redis://h?socket_keepalive=yes", "socket_keepalive", True),
        ("redis://h?client_name=gate", "client_name", "gate"),
    ],
)
def test_what_redis_py_understands_in_a_url_is_understood(url: str, option: str, value: Any) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert store._connector._blocking is not None
    assert store._connector._awaited is not None
    for opener in (store._connector._blocking, store._connector._awaited):
        assert opener.keywords[option] == value


def test_options_reach_the_store() -> None:
    store = open_store("redis://h", prefix="app", timeout=1.5, remember_denials=0, password="secret", db=2)
    assert isinstance(store, RedisStore)
    assert (store.timeout, store._prefix, store.name) == (1.5, "app", "redis://h:6379/2")
    assert store._learnt.denials is None
    assert "secret" not in repr(store)


# Each of these holds the password "hunter2/#!" or a part of it, as people write it down without escaping.
BROKEN = [
    "hunter2",
    "redis:hunter2@localhost",
    "redis//:hunter2@localhost",
    "mongodb://:hunter2@localhost",
    "redis://:hunter2/more@localhost:6379/0",
    "redis://:more/hunter2@localhost:6379/0",
    "redis://me:hunter2/more@localhost:6379/0",
    "redis://:hunter2#more@localhost:6379/0",
    "redis://:more#hunter2@localhost:6379/0",
    "redis://:hunter2?more@localhost:6379/0",
    "redis://:more?hunter2@localhost:6379/0",
    "redis://:123?hunter2@localhost:6379/0",
    "redis://:123#hunter2@localhost:6379/0",
    "redis://:123/hunter2@localhost:6379/0",
    "redis://me:123/hunter2@localhost:6379/0",
    "redis://localhost:6379/0?password=more@hunter2&db=x",
    "redis://localhost:6379/0?password=hunter2@more&db=x",
    "redis://:[hunter2@localhost:6379/0",
    "redis://:hunter2]@localhost:6379/0",
    "redis://:hunter2@localhost:port/0",
    "redis://:hunter2@localhost:99999/0",
    "redis://:hunter2@localhost:-1/0",
    "redis://localhost:6379/0?db=hunter2",
    "redis://localhost:6379/0?password=hunter2&db=x",
    "redis://localhost:6379/0?socket_timeout=hunter2",
    "rediss://localhost:6379/0?password=hunter2&ssl_check_hostname=x&max_connections=x",
]

BROKEN += [url.replace("://", "+cluster://", 1) for url in BROKEN if url.startswith(("redis://", "rediss://"))]
BROKEN += [
    "redis+cluster://:hunter2@",
    "redis+cluster://:hunter2@localhost,",
    "redis+cluster://:hunter2@,localhost",
    "redis+cluster://:hunter2@localhost:0",
    "redis+cluster://:hunter2@localhost, other",
    "redis+cluster://:hunter2@::1:7000",
    "redis+cluster://:hunter2@[::1,localhost",
    "redis+cluster://:hunter2@localhost:7000,other:port",
    "redis+cluster://:hunter2@localhost:7000,other:99999",
    "redis+cluster://:hunter2/more@localhost:7000,other:7001",
    "redis+cluster://:more,hunter2/@localhost:7000,other:7001",
    "unix+cluster://:hunter2@/run/redis.sock",
]


@pytest.mark.parametrize("url", BROKEN)
def test_a_url_that_is_not_understood_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(StoreURLError) as caught:
        open_store(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        assert "hunter2" not in repr(error)
        assert "more" not in str(error)
        error = None if error.__suppress_context__ else error.__context__


@pytest.mark.parametrize("url", ["redis://localhost:6379/abc", "redis://localhost/0/1", "redis://localhost/-1"])
def test_a_database_that_is_no_number_is_refused_and_not_taken_for_the_first(url: str) -> None:
    with pytest.raises(StoreURLError, match="database"):
        open_store(url)


@pytest.mark.parametrize("options", [{"bogus": 1}, {"pasword": "hunter2"}])
def test_an_option_that_nobody_knows_is_refused_when_the_store_is_made(options: dict[str, Any]) -> None:
    with pytest.raises((StoreURLError, TypeError), match=r"bogus|pasword") as caught:
        open_store("redis://localhost", **options)
    assert "hunter2" not in str(caught.value)


def test_a_query_parameter_that_nobody_knows_is_refused_when_the_store_is_made() -> None:
    kinds = ["redis", "rediss", "redis+cluster", "valkey", "nats", "postgresql"]
    for url in [*(f"{kind}://localhost/0?bogus=1" for kind in kinds), "redis+sentinel://localhost/s?bogus=1"]:
        with pytest.raises(StoreURLError, match=r"'bogus' is none of .*password, .*\w$") as caught:
            open_store(url)
        assert "__init__" not in str(caught.value)


def test_the_options_that_there_are_depend_on_the_kind_of_store() -> None:
    for url, name in (
        ("rediss://localhost?bogus=1", "ssl_ca_certs"),
        ("redis://localhost?bogus=1", "socket_keepalive"),
        ("unix:///run/redis.sock?bogus=1", "client_name"),
        ("postgresql://localhost/x?bogus=1", "target_session_attrs"),
    ):
        with pytest.raises(StoreURLError, match=name):
            open_store(url)


def test_an_option_of_tls_is_for_urls_of_tls() -> None:
    for options in ("?ssl_ca_certs=ca.pem", "?ssl_keyfile=x&password=hunter2"):
        with pytest.raises(StoreURLError, match="write rediss:// to have that") as caught:
            open_store(f"redis://localhost/0{options}")
        assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreURLError, match="write rediss:// to have that"):
        open_store("redis://localhost/0", ssl_ca_certs="ca.pem")


def test_an_option_that_may_be_a_part_of_a_password_is_not_named() -> None:
    for url in ("redis://h?password=a&hunter2=", "nats://h?token=a&hunter2=", "postgresql://h/?password=a&hunter2="):
        with pytest.raises(StoreURLError, match=r"an option .* is none of") as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)


def test_the_message_of_an_unknown_scheme_names_those_there_are() -> None:
    with pytest.raises(StoreURLError) as caught:
        open_store("mongodb://localhost/0")
    assert str(caught.value) == (
        "store URL mongodb://... is not understood: it starts with one of "
        "memory://, sqlite://, redis://, rediss://, valkey://, valkeys://, unix://, "
        "redis+cluster://, rediss+cluster://, valkey+cluster://, valkeys+cluster://, "
        "redis+sentinel://, rediss+sentinel://, valkey+sentinel://, valkeys+sentinel://, "
        "postgresql://, postgres://, nats://, tls://"
    )


# Clusters


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis+cluster://node", [Address("node", 6379)]),
        ("redis+cluster://node:7000,other:7001", [Address("node", 7000), Address("other", 7001)]),
        ("redis+cluster://me:s%2C%40crt@node:7000,other", [Address("node", 7000), Address("other", 6379)]),
        (
            "redis+cluster://[::1]:7000,[2001:db8::2],node",
            [Address("::1", 7000), Address("2001:db8::2", 6379), Address("node", 6379)],
        ),
        ("redis+cluster://node,node:6379/0", [Address("node", 6379)]),
    ],
)
def test_a_clusters_url_names_its_first_nodes(url: str, seeds: list[Address]) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert isinstance(store._servers, Cluster)
    assert list(store._servers.topology._seeds) == seeds
    assert store._connector._blocking is not None
    assert store._connector._blocking.keywords["host"] == seeds[0].host


@pytest.mark.parametrize(
    ("url", "option", "value"),
    [
        ("redis+cluster://:s%2Fecret@h,i", "password", "s/ecret"),
        ("redis+cluster://us%40er:p%3Aw@h:1,i:2", "username", "us@er"),
        ("redis+cluster://us%40er:p%2Cw@h:1,i:2", "password", "p,w"),
        ("redis+cluster://h,i?socket_keepalive=yes", "socket_keepalive", True),
        ("valkey+cluster://h,i?client_name=gate", "client_name", "gate"),
    ],
)
def test_every_node_of_a_cluster_is_reached_in_the_same_way(url: str, option: str, value: Any) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    connector = store._connector.at("elsewhere", 7005)
    assert connector._blocking is not None
    assert connector._awaited is not None
    for opener in (connector._blocking, connector._awaited):
        assert [opener.keywords[name] for name in ("host", "port", option)] == ["elsewhere", 7005, value]
        opener()
    assert connector.name == "redis://elsewhere:7005/0"


def test_a_cluster_without_nodes_is_refused() -> None:
    for url in ("redis+cluster://", "redis+cluster:///0", "redis+cluster://?db=0", "redis+cluster://me:hunter2@"):
        with pytest.raises(StoreURLError, match="several hosts are written host:port,host:port"):
            open_store(url)


def test_options_reach_a_cluster() -> None:
    store = open_store("redis+cluster://h", prefix="app", hash_tag="shop", timeout=1.5, address_remap=lambda at: at)
    assert isinstance(store, RedisStore)
    assert isinstance(store._servers, Cluster)
    assert (store.timeout, store._prefix) == (1.5, "app:{shop}")
    assert store._servers.topology.told("node", 7000, Address("asked", 1)) == Address("node", 7000)

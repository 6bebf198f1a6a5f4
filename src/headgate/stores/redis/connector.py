"""How a connection to the server is opened, and what its words for a failure mean.

redis-py resolves, connects, speaks TLS, authenticates and selects the database. What goes over the connection from
then on is ours (`blocking.py`, `awaited.py`).
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any, Final

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.asyncio.client import PubSub as AsyncPubSub
from redis.asyncio.cluster import ClusterPipeline as AsyncClusterPipeline
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.client import Pipeline, PubSub
from redis.cluster import ClusterPipeline, RedisCluster
from redis.retry import Retry

from headgate.errors import InvalidUse, StoreOutage, StoreTimeout, StoreUnavailable, StoreURLError
from headgate.plans.topology import Address, Remap
from headgate.stores.redis.address import describe, shown, translate, unsecret

_NOT_OURS: Final = ("maint_notifications_", "orig_", "oss_cluster_")
"""What redis-py's pools tell their connections of themselves."""
_PIPELINES: Final = (Pipeline, AsyncPipeline, ClusterPipeline, AsyncClusterPipeline)
"""By inheritance, most of them are clients."""


def is_from_replica(reply: Any) -> bool:
    """Has the server become a replica? A new connection may find the new primary."""
    return type(reply) is hiredis.ReplyError and str(reply).startswith("READONLY")


def check_client(client: object) -> None:
    """Refuse what is no client of redis-py.

    :raises InvalidUse: if it is none.
    """
    kind = type(client).__name__
    if isinstance(client, _PIPELINES):
        raise InvalidUse(f"client is a {kind}, which keeps what it is asked for later: give the client itself")
    if not isinstance(client, (redis.Redis, redis.asyncio.Redis, RedisCluster, AsyncRedisCluster)):
        remedy = ""
        if isinstance(client, (PubSub, AsyncPubSub)):
            remedy = ": give the client itself"
        elif isinstance(client, (redis.ConnectionPool, redis.asyncio.ConnectionPool)):
            remedy = ": give a client of it, redis.Redis(connection_pool=...)"
        raise InvalidUse(
            f"client must be a redis.Redis or a redis.cluster.RedisCluster, or one of redis.asyncio, not {kind}{remedy}"
        )


class Connector:
    """Opens connections, for threads and for event loops, each within the deadline. Holds no connection.

    :raises StoreURLError: if redis-py does not understand the URL or an option.
    """

    def __init__(self, url: str, timeout_s: float, options: dict[str, Any]) -> None:
        self.timeout_s: Final = timeout_s
        self._blocking: tuple[Any, dict[str, Any]] | None = None
        self._awaited: tuple[Any, dict[str, Any]] | None = None
        translated = translate(url)
        try:
            for is_blocking, kind in ((True, redis.ConnectionPool), (False, redis.asyncio.ConnectionPool)):
                pool: Any = kind.from_url(translated, **options)
                self._learn(pool, is_blocking)
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise StoreURLError(f"store URL {shown(url)}: {unsecret(error, url)}") from None

    @classmethod
    def like(cls, client: redis.Redis | redis.asyncio.Redis, timeout_s: float) -> Connector:
        """Opens connections like those of a client of somebody's: to the same place, with the same name and rights."""
        return cls._of(client.connection_pool, timeout_s, isinstance(client, redis.Redis))

    @classmethod
    def like_node(cls, client: RedisCluster | AsyncRedisCluster, timeout_s: float) -> Connector:
        """Opens connections like those of a cluster's client, to one of its nodes."""
        manager: Any = client.nodes_manager
        node: Any = next(iter(manager.startup_nodes.values()))
        pool: Any = node  # that of asyncio is its own pool
        if isinstance(client, RedisCluster):
            pool = manager.create_redis_node(node.host, node.port, **manager.connection_kwargs).connection_pool
            # Its own makes connections read from replicas, where it is to.
            pool.connection_kwargs["redis_connect_func"] = client.user_on_connect_func
        return cls._of(pool, timeout_s, isinstance(client, RedisCluster))

    @classmethod
    def _of(cls, pool: Any, timeout_s: float, is_blocking: bool) -> Connector:
        connector = cls.__new__(cls)
        connector.timeout_s = timeout_s  # type: ignore[misc]  # made without __init__: it is final from here on
        connector._blocking = connector._awaited = None
        connector._learn(pool, is_blocking)
        return connector

    def at(self, host: str, port: int) -> Connector:
        """Opens connections to another place, with the same name and rights."""
        connector = copy(self)
        there = {"host": host, "port": port}
        if self._blocking is not None:
            connector._blocking = self._blocking[0], self._blocking[1] | there
        if self._awaited is not None:
            connector._awaited = self._awaited[0], self._awaited[1] | there
        kind, options = connector._blocking or connector._awaited or (object, there)
        connector.name = describe(kind, options)
        return connector

    def _learn(self, pool: Any, is_blocking: bool) -> None:
        """Remember how a pool makes its connections, except that ours are tried once, within the deadline."""
        options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_OURS)}
        shorter = options.get("socket_timeout") or self.timeout_s
        options |= {
            "protocol": 2,  # flat lists of integers are all we read; spares a trip on connecting
            "socket_connect_timeout": min(options.get("socket_connect_timeout") or self.timeout_s, self.timeout_s),
            "socket_timeout": min(shorter, self.timeout_s),
            "retry": (Retry if is_blocking else AsyncRetry)(NoBackoff(), 0),
            "retry_on_error": [],
            "health_check_interval": 0,
        }
        made = pool.connection_class(**options)  # not connected: it refuses what it does not know
        if is_blocking:
            self._blocking = pool.connection_class, options
        else:
            self._awaited = pool.connection_class, options
        self.name = describe(type(made), options)
        """Where the server is, without a password."""

    @property
    def serves_event_loops(self) -> bool:
        """Can `connect_async` open anything?"""
        return self._awaited is not None

    def dial(self) -> Any:
        """A new connection, blocking.

        :raises InvalidUse: if this was made like an asyncio client.
        """
        if self._blocking is None:
            raise InvalidUse("this store was made from an asyncio client: it serves AsyncLimiter only")
        kind, options = self._blocking
        try:
            connection = kind(**options)
            connection.connect()
        except (exceptions.RedisError, OSError):
            raise
        except Exception as error:  # whatever hinders redis-py is an outage
            raise exceptions.ConnectionError(str(error)) from error
        return connection

    async def connect_async(self) -> Any:
        """A new connection of this event loop."""
        assert self._awaited is not None
        kind, options = self._awaited
        connection = kind(**options)
        async with asyncio.timeout(self.timeout_s):
            await connection.connect()
        return connection

    def overdue(self) -> StoreOutage:
        """The outage of a call that got no answer in time."""
        return StoreTimeout(self.name, f"no answer within {self.timeout_s:g} s: is the server up and near?")

    def refused(self, text: str) -> StoreOutage:
        """The outage of a call that the server answered with an error."""
        if text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            text = "it refuses the user name or password: check them, and that the user may run EVALSHA, EVAL and TIME"
            return StoreUnavailable(self.name, f"{text}, and in a cluster CLUSTER SLOTS and ASKING")
        if text.startswith(("MOVED ", "ASK ")):
            remedy = "write redis+cluster:// in the URL, or give the store a RedisCluster"
            return StoreUnavailable(self.name, f"it is a node of a cluster, and answered {text!r}: {remedy}")
        if "cluster support disabled" in text:
            return StoreUnavailable(self.name, "it is no cluster: write redis:// in the URL")
        return StoreUnavailable(self.name, f"it answered with an error: {text}")

    def outage(self, error: Exception) -> StoreOutage:
        """What an error on connecting, sending or receiving means."""
        text = str(error)
        if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
            return self.overdue()
        if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)):
            return self.refused("NOAUTH")
        if "DB index" in text:
            return StoreUnavailable(self.name, "it has no database of this number: check the URL's path")
        if isinstance(error, exceptions.ResponseError):
            return self.refused(text)
        return StoreUnavailable(self.name, f"it cannot be reached: check the address, and that it runs ({text})")


def known_nodes(client: RedisCluster | AsyncRedisCluster) -> tuple[list[Address], Remap | None]:
    """The nodes that a cluster's client knows, and what it makes of the addresses that they tell."""
    manager: Any = client.nodes_manager
    nodes = [*manager.startup_nodes.values(), *manager.nodes_cache.values()]
    return list(dict.fromkeys(Address(node.host, int(node.port)) for node in nodes)), manager.address_remap

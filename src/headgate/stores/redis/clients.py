"""Clients of the user's own, of redis-py or valkey-py: which are accepted, where they connect to, and how.

Neither library promises to keep the names by which its clients tell. Where one is not there, an error says what to do.
valkey-py is not imported: the two call their classes alike, or nearly so. Connections are opened by redis-py all the
same, with the client's options.
"""

from __future__ import annotations

import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from headgate.errors import InvalidUse
from headgate.plans.topology import Address, Remap
from headgate.stores.redis.library import Opener

if TYPE_CHECKING:
    import valkey
    import valkey.asyncio
    import valkey.asyncio.cluster
    import valkey.cluster

    Client = (
        redis.Redis
        | redis.asyncio.Redis
        | RedisCluster
        | AsyncRedisCluster
        | valkey.Valkey
        | valkey.asyncio.Valkey
        | valkey.cluster.ValkeyCluster
        | valkey.asyncio.cluster.ValkeyCluster
    )
else:  # whoever asks at run time for what may be given need not have valkey-py
    Client = redis.Redis | redis.asyncio.Redis | RedisCluster | AsyncRedisCluster | Any

logger = logging.getLogger("headgate")

_POOLS_OWN: Final = ("maint_notifications_", "orig_", "oss_cluster_", "connection_pool")
"""The options that the libraries' pools give to their connections for themselves begin with these."""
_OURS: Final = {
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "parser_class",
    "command_packer",
    "lib_name",
    "lib_version",
}
"""Options of valkey-py's connections with which redis-py's can do nothing."""


_PIPELINES: Final = {"Pipeline", "ClusterPipeline"}
"""Classes of both libraries that are clients by inheritance, most of them."""
_CLIENTS: Final = {"Redis", "RedisCluster", "Valkey", "ValkeyCluster"}
_CLUSTERS: Final = {"RedisCluster", "ValkeyCluster"}
_REMEDIES: Final = {
    "PubSub": ": give the client itself",
    "Sentinel": ": give its client of a service, sentinel.master_for(...)",
    "ConnectionPool": ": give a client of it, redis.Redis(connection_pool=...)",
}
"""Classes of both libraries that are no clients, and what is to be done instead."""


def _kinds(client: object) -> dict[str, str]:
    """The classes of redis-py or valkey-py that something is of: their names, and their modules."""
    return {kind.__name__: kind.__module__ for kind in type(client).__mro__ if _library_of(kind) in ("redis", "valkey")}


def _library_of(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def check_client(client: object) -> None:
    """Refuse what is no client of redis-py or valkey-py, or one of replicas.

    :raises InvalidUse: if it is none.
    """
    kind, kinds = type(client).__name__, _kinds(client).keys()
    if kinds & _PIPELINES:
        raise InvalidUse(f"client is a {kind}, which keeps what it is asked for later: give the client itself")
    if not kinds & _CLIENTS:
        remedy = next((remedy for name, remedy in _REMEDIES.items() if name in kinds), "")
        raise InvalidUse(
            "client must be a redis.Redis or a redis.cluster.RedisCluster, one of redis.asyncio, or one of valkey's, "
            f"not {kind}{remedy}"
        )
    if service_of(client) is not None and not getattr(_pool(client), "is_master", True):
        raise InvalidUse("client asks the replicas of a service, which cannot write: give sentinel.master_for(...)")


def is_blocking(client: object) -> bool:
    """Does a client block?"""
    return any(name in _CLIENTS and ".asyncio" not in module for name, module in _kinds(client).items())


def is_cluster_client(client: object) -> bool:
    """Is it a client of a cluster?"""
    return not _CLUSTERS.isdisjoint(_kinds(client))


def _pool(client: Any) -> Any:
    return getattr(client, "connection_pool", client)


def service_of(client: object) -> str | None:
    """The service whose primary a client asks, as sentinels know it; None if there are no sentinels."""
    service = getattr(_pool(client), "service_name", None)
    return service if isinstance(service, str) else None


def sentinels_of(client: object) -> list[Any]:
    """The clients of the sentinels that a client asks for its primary.

    :raises InvalidUse: if this library does not tell.
    """
    try:
        return list(_pool(client).sentinel_manager.sentinels)
    except AttributeError as error:
        raise _untold(error) from error


def sentinel_remap(client: object) -> Remap | None:
    """Where a client takes the primary to be whatever its sentinels say, if it does (`force_master_ip`)."""
    host = getattr(_pool(client).sentinel_manager, "_force_master_ip", None)
    return None if host is None else lambda address: (host, address.port)


def place_of(client: Any) -> Address:
    """The place that a client of one server connects to."""
    told = opener_like(client).keywords
    return Address(told.get("host", "localhost"), int(told.get("port", 6379)))


def opener_like(source: Any) -> Opener:
    """Find out how a client or a pool makes its connections.

    :raises InvalidUse: if its library does not tell.
    """
    try:
        pool = _pool(source)
        if is_cluster_client(source):
            node = nodes_of(source)[0]  # in an event loop, a pool of its own
            if is_blocking(source):
                connect = getattr(source, "get_redis_connection", None) or source.get_valkey_connection
                pool = connect(node).connection_pool
            else:
                pool = node
        options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_POOLS_OWN)}
        kind = pool.connection_class
        if isinstance(kind, type):
            kind = _without_sentinels(kind)
            if _is_of_valkey(kind):
                kind, options = _like_valkeys(kind, options, blocking=is_blocking(source))
        if hasattr(source, "user_on_connect_func"):
            # A cluster's own makes connections read from replicas, where it is to.
            options["redis_connect_func"] = source.user_on_connect_func
        return partial(kind, **options)
    except AttributeError as error:
        raise _untold(error) from error


def _untold(error: AttributeError) -> InvalidUse:
    return InvalidUse(
        f"redis-py {redis.__version__} does not tell how it connects ({error}): "
        "give the store a URL in place of a client, or install a version that docs/stores.md names"
    )


def _without_sentinels(kind: type) -> type:
    """The class of connections that do not ask sentinels themselves."""
    if kind.__name__.startswith("SentinelManaged"):
        return next(one for one in kind.__mro__ if one.__name__ in ("SSLConnection", "Connection"))
    return kind


def _is_of_valkey(kind: type) -> bool:
    return any(_library_of(one) == "valkey" for one in kind.__mro__)


def _like_valkeys(kind: type, options: dict[str, Any], *, blocking: bool) -> tuple[type, dict[str, Any]]:
    """The class of redis-py's that makes connections like those of valkey-py, and its options."""
    if _library_of(kind) != "valkey":
        raise InvalidUse(
            f"client connects by a class of its own, {kind.__qualname__}, of which redis-py knows nothing: "
            "give the store a URL in place of a client"
        )
    ours: type = getattr(redis.connection if blocking else redis.asyncio.connection, kind.__name__)
    known = {name for one in ours.__mro__ for name in inspect.signature(one.__init__).parameters} - _OURS  # type: ignore[misc]  # of a class
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(kind.__init__).parameters.items()  # type: ignore[misc]  # of a class
        if name.startswith("ssl_")  # valkey-py's own defaults
    } | options
    translated = {name: value for name, value in given.items() if name in known}
    if given.get("valkey_connect_func") is not None:
        translated["redis_connect_func"] = given["valkey_connect_func"]
    if given.get("credential_provider") is not None:
        translated["credential_provider"] = _Credentials(given["credential_provider"])
    return ours, translated


class _Credentials(redis.CredentialProvider):
    """Provides redis-py with what a provider of valkey-py's has, which need not know of event loops."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def get_credentials(self) -> Any:
        return self._provider.get_credentials()

    async def get_credentials_async(self) -> Any:
        return self._provider.get_credentials()


def nodes_of(client: Any) -> list[Any]:
    """List the nodes that a cluster's client knows.

    :raises InvalidUse: if there are none yet.
    """
    named: dict[str, Any] = getattr(getattr(client, "nodes_manager", None), "startup_nodes", {})
    nodes = [*named.values(), *client.get_nodes()]
    if not nodes:
        raise InvalidUse("this client of a cluster knows no node yet: await its initialize() before you give it away")
    return nodes


def known_nodes(client: Any) -> tuple[list[Address], Remap | None]:
    """Find out the addresses of the nodes that a cluster's client knows, and what it makes of those that they tell."""
    manager = getattr(client, "nodes_manager", None)
    if not hasattr(manager, "address_remap"):
        logger.warning(
            "headgate: redis-py %s does not tell the address_remap of a cluster's client: if yours has one, "
            "give the store a URL and address_remap=... in its place",
            redis.__version__,
        )
    addresses = [Address(node.host, int(node.port)) for node in nodes_of(client)]
    return list(dict.fromkeys(addresses)), getattr(manager, "address_remap", None)

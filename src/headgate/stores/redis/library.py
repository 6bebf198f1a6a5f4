"""Getting at what redis-py holds: the sockets of its connections, and how its clients connect.

redis-py does not promise to keep the names of these. Only this module touches them, when a store is made and when a
connection is opened; where one is not there, there is a public way instead, or an error that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any, Final, Protocol

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from headgate.errors import InvalidUse
from headgate.plans.topology import Address, Remap

logger = logging.getLogger("headgate")

Opener = partial[Any]
"""Makes a connection of redis-py's, which is yet to connect."""
Client = redis.Redis | redis.asyncio.Redis | RedisCluster | AsyncRedisCluster

_POOLS_OWN: Final = ("maint_notifications_", "orig_", "oss_cluster_")
"""The options that redis-py's pools give to their connections for themselves begin with these."""
_CODES: Final[dict[type, str]] = {
    exceptions.AskError: "ASK",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}
"""The first words of a server's errors, which redis-py turns into classes."""


class Receiver(Protocol):
    """Receives what comes from a server, as bytes or as replies."""

    def data_received(self, data: bytes, /) -> None: ...
    def reply_received(self, reply: Any, /) -> None: ...
    def connection_lost(self, error: Exception | None, /) -> None: ...


def opener_like(source: Any) -> Opener:
    """Find out how a client or a pool makes its connections.

    :raises InvalidUse: if this redis-py does not tell.
    """
    try:
        pool = getattr(source, "connection_pool", source)
        if isinstance(source, RedisCluster):
            pool = source.get_redis_connection(nodes_of(source)[0]).connection_pool
        elif isinstance(source, AsyncRedisCluster):
            pool = nodes_of(source)[0]  # a pool of its own
        options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_POOLS_OWN)}
        if hasattr(source, "user_on_connect_func"):
            # A cluster's own makes connections read from replicas, where it is to.
            options["redis_connect_func"] = source.user_on_connect_func
        return partial(pool.connection_class, **options)
    except AttributeError as error:
        raise InvalidUse(
            f"redis-py {redis.__version__} does not tell how it connects ({error}): "
            "give the store a URL in place of a client, or install a version that docs/stores.md names"
        ) from error


def nodes_of(client: RedisCluster | AsyncRedisCluster) -> list[Any]:
    """List the nodes that a cluster's client knows.

    :raises InvalidUse: if there are none yet.
    """
    named: dict[str, Any] = getattr(getattr(client, "nodes_manager", None), "startup_nodes", {})
    nodes = [*named.values(), *client.get_nodes()]
    if not nodes:
        raise InvalidUse("this client of a cluster knows no node yet: await its initialize() before you give it away")
    return nodes


def known_nodes(client: RedisCluster | AsyncRedisCluster) -> tuple[list[Address], Remap | None]:
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


def is_from_replica(reply: Any) -> bool:
    """Has the server become a replica? A new connection may find the new primary."""
    return type(reply) is hiredis.ReplyError and str(reply).startswith("READONLY")


def socket_of(connection: Any) -> socket.socket | None:
    """Find the socket of a blocking connection; None where redis-py keeps it elsewhere."""
    found: socket.socket | None = getattr(connection, "_sock", None)
    return found


def read(connection: Any) -> Any:
    """Read the next reply on a blocking connection, by redis-py's public way."""
    try:
        return connection.read_response(disable_decoding=True)
    except exceptions.ResponseError as error:
        return _in_full(error)


def _in_full(error: exceptions.ResponseError) -> hiredis.ReplyError:
    code = _CODES.get(type(error))
    return hiredis.ReplyError(f"{code} {error}" if code else str(error))


def take_over(connection: Any, receiver: Receiver) -> tuple[Any, object]:
    """Have what comes over an asyncio connection given to `receiver`. Returns the transport, and what has to live as
    long.
    """
    writer = getattr(connection, "_writer", None)
    if writer is None or not hasattr(connection, "_reader"):
        return PublicTransport(connection, receiver), None
    connection._writer = connection._reader = None  # they are ours now
    writer.transport.set_protocol(receiver)
    return writer.transport, writer  # which would close the transport at its end


class PublicTransport:
    """Stands in for the transport of an asyncio connection by redis-py's public way, which is slower: one task sends,
    another one receives.
    """

    def __init__(self, connection: Any, receiver: Receiver) -> None:
        connection.socket_timeout = None  # whoever waits has a deadline
        self._connection = connection
        self._receiver = receiver
        self._unsent: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None
        self._receiving = asyncio.get_running_loop().create_task(self._receive(), name="headgate-receiving")

    def write(self, packed: bytes) -> None:
        """Send something, after all that was to be sent before."""
        self._unsent.append(packed)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="headgate-sending")

    async def _send(self) -> None:
        try:
            while self._unsent:
                packed, self._unsent = b"".join(self._unsent), []
                await self._connection.send_packed_command([packed], check_health=False)
        except (exceptions.RedisError, OSError):
            self.abort()
        finally:
            self._sending = None

    async def _receive(self) -> None:
        lost: Exception | None = None
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disable_decoding=True)
                except exceptions.ResponseError as error:
                    reply = _in_full(error)
                self._receiver.reply_received(reply)
        except Exception as error:  # whatever it is, there will be no more replies
            lost = error
        finally:
            if self._sending is not None:
                self._sending.cancel()
            await self._connection.disconnect(nowait=True)
            self._receiver.connection_lost(lost)

    def is_closing(self) -> bool:
        """Is it closed, or about to be?"""
        return self._receiving.done()

    def abort(self) -> None:
        """Close the connection."""
        asyncio.get_running_loop().call_soon(self._receiving.cancel)  # once it has begun

    close = abort

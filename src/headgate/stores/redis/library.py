"""Getting at the sockets of the connections that redis-py holds.

redis-py does not promise to keep the names of these. Only this module touches them, when a connection is opened (and
`clients.py` those of clients, when a store is made); where one is not there, there is a public way instead.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import Any, Final, Protocol

import hiredis
from redis import exceptions

from headgate.drive import Plan, drive, drive_async
from headgate.runtime.names import names

Opener = partial[Any]
"""Makes a connection of redis-py's, which is yet to connect."""

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


_UNREACHABLE: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""The errors of a connection to one address, after which the next may be tried."""
_LEAST_S: Final = 0.001


class Receiver(Protocol):
    """Receives what comes from a server, as bytes or as replies."""

    def data_received(self, data: bytes, /) -> None: ...
    def reply_received(self, reply: Any, /) -> None: ...
    def connection_lost(self, error: Exception | None, /) -> None: ...


OF_POOLS: Final = frozenset({"max_connections", "connection_class"})
"""Options that a pool takes, and does not hand on to its connections."""


def given_kind(options: Mapping[str, Any]) -> Any:
    """The class or function of somebody's that makes connections, in place of redis-py's classes."""
    return options.get("connection_class")


def options_of(kind: Any) -> set[str]:
    """The options that a class of connections takes, those that it hands on to the classes that it is made of, too."""
    return {
        name
        for one in kind.__mro__
        if one is not object
        for name, parameter in signature(one.__init__).parameters.items()
        if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) and name != "self"
    }


def is_from_replica(reply: Any) -> bool:
    """Has the server become a replica? A new connection may find the new primary."""
    return type(reply) is hiredis.ReplyError and str(reply).startswith("READONLY")


def socket_of(connection: Any) -> socket.socket | None:
    """Find the socket of a blocking connection; None where redis-py has another name for it."""
    found: socket.socket | None = getattr(connection, "_sock", None)
    return found


def connect(connection: Any, left_s: float) -> None:
    """Connect a blocking connection, and say to the server what has to be said, all in this time: redis-py has its
    timeouts for each address and each answer, and none for the lookup of a name.

    :raises NameOverdue: if its host's name was not looked up in time.
    """
    until_s = time.monotonic() + left_s
    host = _host_of(connection)
    addresses = None if host is None else names.find(host, left_s)
    drive(_trying(addresses, until_s), lambda turn: _connect_in_time(connection, *turn))


def _connect_in_time(connection: Any, address: str | None, left_s: float) -> None:
    until_s = time.monotonic() + left_s
    usual_s, read_response = connection.socket_timeout, connection.read_response

    def read_in_time(*args: Any, **kwargs: Any) -> Any:
        in_s = until_s - time.monotonic()
        if in_s <= 0:
            raise TimeoutError("connecting took too long")
        found = socket_of(connection)
        if found is not None:
            found.settimeout(in_s)
        return read_response(*args, **kwargs)

    usual_connect_s = getattr(connection, "socket_connect_timeout", None)
    if usual_connect_s is not None:  # a Unix socket may have none
        connection.socket_connect_timeout = min(usual_connect_s, left_s)
    connection.socket_timeout = min(usual_s, left_s)  # which is that of a TLS handshake
    connection.read_response = read_in_time
    try:
        with _at(connection, address):
            connection.connect()
    except BaseException:  # redis-py does not hang up after each
        connection.disconnect()
        raise
    finally:
        del connection.read_response
        connection.socket_timeout = usual_s
        if usual_connect_s is not None:
            connection.socket_connect_timeout = usual_connect_s
    found = socket_of(connection)
    if found is not None:
        found.settimeout(usual_s)


async def connect_async(connection: Any, left_s: float) -> None:
    """As `connect`, an asyncio connection."""
    until_s = time.monotonic() + left_s
    host = _host_of(connection)
    addresses = None if host is None else await names.find_async(host, left_s)
    await drive_async(_trying(addresses, until_s), lambda turn: _connect_in_time_async(connection, *turn))


async def _connect_in_time_async(connection: Any, address: str | None, left_s: float) -> None:
    try:
        with _at(connection, address):
            async with asyncio.timeout(left_s):
                await connection.connect()
    except BaseException:  # redis-py does not hang up after each
        await connection.disconnect(nowait=True)
        raise


def _trying(addresses: list[str] | None, until_s: float) -> Plan[tuple[str | None, float], None]:
    """Yield each address until one is connected to, with the seconds that it may take, an equal share of what is left.
    None: where it is told otherwise.
    """
    tried: list[str | None] = [None] if addresses is None else [*addresses]
    while tried:
        address, *tried = tried
        try:
            yield address, max(_LEAST_S, (until_s - time.monotonic()) / (len(tried) + 1))
        except _UNREACHABLE as error:
            if not tried or isinstance(error, exceptions.AuthenticationError):
                raise
        else:
            return


def _host_of(connection: Any) -> str | None:
    """The host that a connection leads to, unless that is a Unix socket."""
    host = getattr(connection, "host", None)
    return host if isinstance(host, str) else None


@contextmanager
def _at(connection: Any, address: str | None) -> Iterator[None]:
    """Have redis-py connect to an address in place of the host's name, but check a certificate for the name. Where that
    cannot be done, it looks the name up again.
    """
    is_secure = "SSL" in type(connection).__name__
    can_name = hasattr(connection, "_wrap_socket_with_ssl") or hasattr(connection, "_connection_arguments")
    if address is None or (is_secure and not can_name):
        yield
        return
    name = connection.host

    def wrap_socket_with_ssl(socket: Any) -> Any:
        connection.host = name
        return type(connection)._wrap_socket_with_ssl(connection, socket)

    def connection_arguments() -> dict[str, Any]:
        return {**type(connection)._connection_arguments(connection), "server_hostname": name}

    connection.host = address
    if is_secure:
        connection._wrap_socket_with_ssl, connection._connection_arguments = wrap_socket_with_ssl, connection_arguments
    try:
        yield
    finally:
        connection.host = name
        if is_secure:
            del connection._wrap_socket_with_ssl, connection._connection_arguments


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

"""Opening connections to the server, and the meaning of its words for a failure.

redis-py connects, speaks TLS, authenticates and selects the database. What goes over the connection from
then on is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from headgate.errors import InvalidUse, StoreOutage, StoreTimeout, StoreUnavailable, StoreURLError
from headgate.runtime.names import NameOverdue
from headgate.stores.redis import library, permissions
from headgate.stores.redis.address import describe, translate
from headgate.stores.redis.clients import is_blocking, opener_like
from headgate.stores.redis.connections import PublicConnection, SocketConnection, TransportConnection
from headgate.stores.redis.library import Opener
from headgate.stores.remote import tls
from headgate.stores.remote.connections import overdue
from headgate.stores.remote.urls import not_understood, shown, unknown_option, unsecret

_TLS: Final = tls.Names("ssl_", "redis", "rediss")
_KINDS: Final = {"rediss": redis.SSLConnection, "unix": redis.UnixDomainSocketConnection}
"""The classes of connections by the schemes of redis-py's URLs, where they are not the common one."""
_OF_TLS: Final = library.options_of(redis.SSLConnection) - library.options_of(redis.Connection)
_COMMON: Final = frozenset({"username", "password", "db", "client_name"})
"""Options that are named to whoever gives one that is none, beside those of sockets and TLS."""


class Connector:
    """Opens connections, for threads and for event loops, each within the deadline. Holds no connection.

    :param blocking: opens those of threads, `awaited` those of event loops; None if nothing does.
    """

    name: str
    """Where the server is, without a password."""

    def __init__(self, blocking: Opener | None, awaited: Opener | None, timeout_s: float) -> None:
        self.timeout_s: Final = timeout_s
        self._blocking: Final = blocking
        self._awaited: Final = awaited
        self._has_connected = False
        for opener in filter(None, (blocking, awaited)):
            self.name = describe(opener.func.__name__, opener.keywords)

    @classmethod
    def by_url(cls, url: str, timeout_s: float, options: dict[str, Any], given: str | None = None) -> Self:
        """Make one for the server of a URL.

        :param given: the URL that somebody wrote, from which this one was made, for errors.
        :raises StoreURLError: if redis-py does not understand the URL or an option.
        """
        translated = translate(url)
        given = given or url
        _check_names(translated, options, given)
        try:
            pools: tuple[Any, ...] = redis.ConnectionPool, redis.asyncio.ConnectionPool
            blocking, awaited = (opener_like(kind.from_url(translated, **options)) for kind in pools)
            return cls(_within(timeout_s, blocking, Retry), _within(timeout_s, awaited, AsyncRetry), timeout_s)
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise StoreURLError(f"store URL {shown(given)}: {unsecret(error, given)}") from None

    @classmethod
    def like(cls, client: object, timeout_s: float) -> Self:
        """Make one that opens connections like those of a client of somebody's: to the same place (in a cluster, to one
        of its nodes), with the same name and rights.
        """
        opener = _within(timeout_s, opener_like(client), Retry if is_blocking(client) else AsyncRetry)
        return cls(opener, None, timeout_s) if is_blocking(client) else cls(None, opener, timeout_s)

    def at(self, host: str, port: int) -> Self:
        """Make one that opens connections to another place, with the same name and rights."""
        blocking, awaited = (
            opener and partial(opener, host=host, port=port) for opener in (self._blocking, self._awaited)
        )
        return type(self)(blocking, awaited, self.timeout_s)

    @property
    def serves_event_loops(self) -> bool:
        """Can `connect_async` open anything?"""
        return self._awaited is not None

    def connect(self, left_s: float | None = None) -> PublicConnection:
        """Open a connection, blocking, within the deadline or what is left of it.

        :raises InvalidUse: if this was made like an asyncio client.
        """
        if self._blocking is None:
            raise InvalidUse("this store was made from an asyncio client: it serves AsyncLimiter only")
        try:
            connection = self._blocking()
            library.connect(connection, self.timeout_s if left_s is None else min(left_s, self.timeout_s))
        except (exceptions.RedisError, OSError):
            raise
        except Exception as error:  # whatever hinders redis-py is an outage
            raise exceptions.ConnectionError(str(error)) from error
        self._has_connected = True
        socket = library.socket_of(connection)
        return PublicConnection(connection) if socket is None else SocketConnection(connection, socket)

    async def connect_async(self) -> TransportConnection:
        """Open a connection of this event loop."""
        assert self._awaited is not None
        connection = self._awaited()
        await library.connect_async(connection, self.timeout_s)
        self._has_connected = True
        return TransportConnection(connection, self.outage)

    @property
    def _is_secure(self) -> bool:
        opener = self._blocking or self._awaited
        return opener is not None and "SSL" in opener.func.__name__

    def overdue(self) -> StoreOutage:
        """The outage of a call that got no answer in time."""
        return overdue(self.name, self.timeout_s, begins_tls=self._is_secure and not self._has_connected)

    def refused(self, text: str) -> StoreOutage:
        """The outage of a call that the server answered with an error."""
        if text.startswith(("NOAUTH", "WRONGPASS")):
            return StoreUnavailable(self.name, "it refuses the user name or password: check them")
        if (missing := permissions.problem_of(text)) is not None:
            return StoreUnavailable(self.name, missing)
        if text.startswith(("MOVED ", "ASK ")):
            remedy = "write redis+cluster:// in the URL, or give the store a RedisCluster"
            return StoreUnavailable(self.name, f"it is a node of a cluster, and answered {text!r}: {remedy}")
        if "unknown command 'evalsha'" in text.lower():  # it has no scripts
            remedy = "if it is a sentinel, write redis+sentinel://host:port/service in the URL"
            return StoreUnavailable(self.name, f"it answered with an error: {text}: {remedy}")
        if "cluster support disabled" in text:
            return StoreUnavailable(self.name, "it is no cluster: write redis:// in the URL")
        return StoreUnavailable(self.name, f"it answered with an error: {text}")

    def outage(self, error: Exception) -> StoreOutage:
        """The outage that an error on connecting, sending or receiving means."""
        text = str(error)
        if isinstance(error, NameOverdue):
            return StoreTimeout(self.name, text)
        if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
            return self.overdue()
        if isinstance(error, exceptions.AuthenticationError):
            return self.refused("NOAUTH")
        if isinstance(error, exceptions.NoPermissionError):
            return self.refused(f"NOPERM {text}")
        if "DB index" in text:
            return StoreUnavailable(self.name, "it has no database of this number: check the URL's path")
        if isinstance(error, exceptions.ResponseError):
            return self.refused(text)
        opener = self._blocking or self._awaited
        options = {} if opener is None else opener.keywords
        problem = tls.problem_of(text, _TLS, options, is_secure=self._is_secure)
        problem = problem or f"it cannot be reached: check the address, and that it runs ({text})"
        return StoreUnavailable(self.name, problem)


def _check_names(translated: str, options: Mapping[str, Any], given: str) -> None:
    """Refuse an option that redis-py's connections do not take.

    :param translated: the URL as redis-py takes it; `given`: as somebody wrote it.
    :raises StoreURLError: if there is one.
    """
    kind = library.given_kind(options) or _KINDS.get(translated.partition("://")[0], redis.Connection)
    if not isinstance(kind, type):  # a function of somebody's that makes them
        return
    taken = library.options_of(kind)
    known = sorted(name for name in taken if name in _COMMON or name.startswith(("socket_", "ssl_")))
    asked = [name for name, _ in parse_qsl(translated.partition("?")[2], keep_blank_values=True)]
    for name in (*asked, *options):
        if name in taken or name in library.OF_POOLS:
            continue
        if name in _OF_TLS:
            raise not_understood(given, f"{name} is an option of TLS: write rediss:// to have that")
        if name in options:
            raise StoreURLError(f"store URL {shown(given)}: there is no option {name}; there are {', '.join(known)}")
        raise unknown_option(given, name, known)


def _within(timeout_s: float, opener: Opener, retry: type[Retry | AsyncRetry]) -> Opener:
    """The same, but it tries once, within the deadline."""
    given = opener.keywords
    opener = partial(
        opener,
        protocol=2,  # flat lists of integers are all we read; spares a round trip on connecting
        socket_connect_timeout=min(given.get("socket_connect_timeout") or timeout_s, timeout_s),
        socket_timeout=min(given.get("socket_timeout") or timeout_s, timeout_s),
        retry=retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )
    opener()  # not connected: it refuses what it does not know
    return opener

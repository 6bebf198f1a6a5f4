"""The Redis and Valkey store: one script call for a batch, by the server's clock. Redis 6.2 or later, any Valkey.

This module must not know any algorithm: it carries the plan's commands to the server. It uses redis-py's
connections and pools, but not its `execute_command`, which may send a command again after a failure: a spend that
timed out may have been counted, and is never repeated.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

try:
    import redis
    import redis.asyncio
    from redis import exceptions
except ImportError as error:  # pragma: no cover - the suite always has it
    from headgate.errors import MissingExtra

    raise MissingExtra("redis-py", "redis") from error

from headgate.clock import Clock, system_clock
from headgate.coalesce import Answer, AsyncCoalescer, ThreadCoalescer
from headgate.decision import Decision
from headgate.drive import drive, drive_async
from headgate.errors import InvalidUse, StoreOutage, StoreTimeout, StoreUnavailable, StoreURLError
from headgate.hits import Group
from headgate.keys import check_prefix
from headgate.plans import redis as plans

SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The URL schemes that are understood, and what redis-py calls them."""

_Loop = asyncio.AbstractEventLoop


class _Line:
    """A connection that we may keep, and what tells whether something has come in on it."""

    __slots__ = ("_poller", "connection", "pid")

    def __init__(self, connection: Any, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self._poller: Any = None

    def is_quiet(self) -> bool:
        """Is there nothing to read, as there should be before we ask?"""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self.connection._sock, select.POLLIN)
        return not self._poller.poll(0)

    def hurry(self, timeout: float) -> None:
        """Put our deadline on somebody else's connection."""
        own = self.connection.socket_timeout
        self.connection._sock.settimeout(timeout if own is None else min(own, timeout))  # redis-py has no name for it

    def relax(self) -> None:
        """Take our deadline off again."""
        if self.connection._sock is not None:
            self.connection._sock.settimeout(self.connection.socket_timeout)


class _LoopLines:
    """The connections of one event loop."""

    __slots__ = ("_idle", "_keeps", "_pool")

    def __init__(self, pool: Any, keeps: bool) -> None:
        self._pool = pool
        self._keeps = keeps
        self._idle: list[Any] = []

    async def check_out(self) -> Any:
        """A connection that we kept, if it has not ended meanwhile, or the pool's."""
        while self._idle:
            connection = self._idle.pop()
            if not connection._reader.at_eof():
                return connection
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        return await self._pool.get_connection()

    async def check_in(self, connection: Any) -> None:
        """Keep it, or give it back."""
        if self._keeps and connection._reader is not None:
            self._idle.append(connection)
        else:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections, kept or not."""
        self._idle.clear()
        await self._pool.disconnect()


class RedisStore:
    """State in Redis or Valkey, shared by everyone who asks the same server with the same prefix.

    :param url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path/to/socket?db=0`;
        `valkey://` and `valkeys://` mean the same. What redis-py understands as a query parameter is understood
        here.
    :param client: your own `redis.Redis` or `redis.asyncio.Redis`, in place of a URL; it is used, and never closed.
        A blocking client serves `Limiter`, an asyncio one `AsyncLimiter`. How it connects stays its own affair: a
        blocking `redis.Redis` tries several times, with pauses, unless it has `retry=Retry(NoBackoff(), 0)`.
    :param prefix: the first part of every key.
    :param timeout: the deadline of a call, in seconds. Connecting has one of its own.
    :param max_connections: the size of each pool; callers wait for a free connection, within the deadline. None: no
        bound.
    :param coalesce: let calls that come while a trip is under way travel together in the next one. The decisions are
        the same; a busy process makes far fewer trips.
    :param options: anything else that redis-py's connections take: `password`, `username`, `db`, `ssl_ca_certs`,
        ...
    :raises StoreURLError: if the URL is not understood.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: redis.Redis | redis.asyncio.Redis | None = None,
        prefix: str = "headgate",
        timeout: float = 0.25,
        max_connections: int | None = None,
        coalesce: bool = True,
        **options: Any,
    ) -> None:
        if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
            raise InvalidUse(f"timeout is a number of seconds above 0, not {timeout!r}")
        if max_connections is not None and (type(max_connections) is not int or max_connections < 1):
            raise InvalidUse(f"max_connections is an integer of at least 1, or None, not {max_connections!r}")
        if client is not None and (url is not None or max_connections is not None or options):
            raise InvalidUse("a store takes a client or a URL with its options, not both")
        self.timeout = timeout
        self._prefix = check_prefix(prefix)
        self._skew_us = 0
        self._now: Clock | None = None
        """Replaces the server's clock, in tests."""
        self._pool: redis.ConnectionPool | None = None
        self._their_pool: redis.asyncio.ConnectionPool | None = None
        self._loops: weakref.WeakKeyDictionary[_Loop, _LoopLines] = weakref.WeakKeyDictionary()
        self._url, self._options = "", options
        self._max_connections = max_connections
        if client is None:
            self._url = _translate(url or "redis://localhost:6379/0")
            self._pool = self._own_pool(redis.ConnectionPool, redis.BlockingConnectionPool, timeout)
        elif isinstance(client, redis.asyncio.Redis):
            self._their_pool = client.connection_pool
        elif isinstance(client, redis.Redis):
            self._pool = client.connection_pool
        else:
            raise InvalidUse(f"client must be a redis.Redis or a redis.asyncio.Redis, not {type(client).__name__}")
        self._is_own = client is None
        self._keeps_connections = client is None and max_connections is None and hasattr(select, "poll")
        self._idle: deque[_Line] = deque()
        self._coalesces = coalesce
        self._threads = ThreadCoalescer(self._trip, self._overdue, timeout)
        self._tasks = AsyncCoalescer(self._trip_async, self._overdue, timeout)
        self.name = _describe(self._pool or self._their_pool)
        """Where the server is, without a password."""

    def __repr__(self) -> str:
        return f"<RedisStore {self.name}>"

    def decide(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch in one trip, blocking.

        :raises StoreOutage: if the server cannot be asked.
        """
        if self._pool is None:
            raise InvalidUse("this store was made from an asyncio client: it serves AsyncLimiter only")
        if not groups:
            return []
        return _decisions(self._threads.decide(groups) if self._coalesces else self._trip(groups))

    async def decide_async(self, groups: Sequence[Group], /) -> list[Decision]:
        """Judge a batch in one trip.

        :raises StoreOutage: if the server cannot be asked.
        """
        if self._their_pool is None and not self._is_own:
            raise InvalidUse("this store was made from a blocking client: it serves Limiter only")
        if not groups:
            return []
        return _decisions(await (self._tasks.decide(groups) if self._coalesces else self._trip_async(groups)))

    def _trip(self, groups: Sequence[Group]) -> list[Answer]:
        return self._learn(drive(self._plan(groups), self.send))

    async def _trip_async(self, groups: Sequence[Group]) -> list[Answer]:
        return self._learn(await drive_async(self._plan(groups), self.send_async))

    def send(self, script: plans.Script) -> list[int] | plans.ScriptMissing:
        """Run a script, blocking."""
        try:
            line = self._check_out()
            try:
                connection = line.connection
                if script.packed and not script.is_whole:
                    connection.send_packed_command((script.packed,))
                else:
                    connection.send_command(*_words(script))
                reply: list[int] = connection.read_response()
                return reply
            except BaseException as error:
                if not _is_intact(error):
                    line.connection.disconnect()
                raise
            finally:
                self._check_in(line)
        except exceptions.NoScriptError:
            return plans.ScriptMissing()
        except (exceptions.RedisError, OSError) as error:
            raise self._outage(error) from error

    async def send_async(self, script: plans.Script) -> list[int] | plans.ScriptMissing:
        """Run a script."""
        lines = self._lines_of_loop()
        try:
            async with asyncio.timeout(self.timeout):
                connection = await lines.check_out()
                try:
                    if script.packed and not script.is_whole:
                        await connection.send_packed_command((script.packed,))
                    else:
                        await connection.send_command(*_words(script))
                    reply: list[int] = await connection.read_response()
                    return reply
                except BaseException as error:
                    if not _is_intact(error):
                        await connection.disconnect(nowait=True)
                    raise
                finally:
                    await lines.check_in(connection)
        except exceptions.NoScriptError:
            return plans.ScriptMissing()
        except (exceptions.RedisError, OSError) as error:  # TimeoutError is an OSError
            raise self._outage(error) from error

    def _check_out(self) -> _Line:
        """A connection to ask on: one that we kept and on which nothing has come in since (not even its end), or
        the pool's.
        """
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if line.pid == os.getpid():  # in a forked process, the connection is our parent's
                if line.is_quiet():
                    return line
                line.connection.disconnect()
                self._release(line)
        pool: Any = self._pool  # redis-py leaves its pools untyped
        line = _Line(pool.get_connection(), os.getpid())
        if not self._is_own:
            line.hurry(self.timeout)
        return line

    def _check_in(self, line: _Line) -> None:
        """Keep a connection of our own pool at hand, or give it back.

        The way through redis-py's pool takes longer than all else that we do for a call. A bounded pool has to see
        its connections come back, though: somebody may be waiting for one.
        """
        if self._keeps_connections and line.connection._sock is not None:
            self._idle.append(line)
        else:
            self._release(line)

    def _release(self, line: _Line) -> None:
        if not self._is_own:
            line.relax()
        pool: Any = self._pool
        pool.release(line.connection)

    def close(self) -> None:
        """Close what this store opened for threads, where nobody is asking, and have event loops close theirs."""
        self._close_idle()
        if self._is_own:
            for loop, lines in list(self._loops.items()):
                if loop.is_running():  # ours, or another thread's
                    asyncio.run_coroutine_threadsafe(lines.close(), loop)
            self._loops.clear()

    async def aclose(self) -> None:
        """Close what this store opened for this event loop, and for threads where nobody is asking."""
        if self._is_own:
            lines = self._loops.pop(asyncio.get_running_loop(), None)
            if lines is not None:
                await lines.close()
            self._close_idle()

    def _close_idle(self) -> None:
        if self._is_own and self._pool is not None:
            while self._idle:
                line = self._idle.pop()
                if line.pid == os.getpid():
                    line.connection.disconnect()
                    self._release(line)
            self._pool.disconnect(inuse_connections=False)

    def _plan(self, groups: Sequence[Group]) -> Any:
        now_us = None if self._now is None else self._now()
        near_us = system_clock() + self._skew_us if now_us is None else now_us
        return plans.decide(groups, prefix=self._prefix, near_us=near_us, now_us=now_us, refused=self._refused)

    def _learn(self, answers: list[Answer]) -> list[Answer]:
        """Remember how far the server's clock is from ours: it is used to guess calendar windows, never to
        decide.
        """
        first = answers[0]
        if isinstance(first, Decision) and self._now is None and not first.group.hits[0].limit.is_plain:
            skew_us = first.now_us - system_clock()
            if abs(skew_us - self._skew_us) > 1_000_000:
                self._skew_us = skew_us
        return answers

    def _own_pool(self, free: Any, bounded: Any, timeout: float | None) -> Any:
        options = {
            "socket_timeout": timeout,
            "socket_connect_timeout": self.timeout,
            "protocol": 2,  # flat lists of integers are all we read; spares a trip on connecting
            **self._options,
        }
        try:
            if self._max_connections is None:
                pool = free.from_url(self._url, max_connections=2**31, **options)
            else:
                pool = bounded.from_url(
                    self._url, max_connections=self._max_connections, timeout=self.timeout, **options
                )
            pool.connection_class(**pool.connection_kwargs)  # not connected: it refuses what it does not know
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise StoreURLError(f"store URL {_shown(self._url)}: {_unsecret(error, self._url)}") from None
        return pool

    def _lines_of_loop(self) -> _LoopLines:
        loop = asyncio.get_running_loop()
        lines = self._loops.get(loop)
        if lines is None:
            for ended in [other for other in self._loops if other.is_closed()]:
                del self._loops[ended]
            pool = self._their_pool
            if pool is None:
                # The deadline is one for the whole call, and set around it.
                pool = self._own_pool(redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool, None)
            lines = self._loops[loop] = _LoopLines(pool, self._keeps_connections)
        return lines

    def _overdue(self) -> StoreOutage:
        return StoreTimeout(self.name, f"no answer within {self.timeout:g} s: is the server up and near?")

    def _refused(self, text: str) -> StoreOutage:
        return StoreUnavailable(self.name, f"it answered with an error: {text}")

    def _outage(self, error: Exception) -> StoreOutage:
        text = str(error)
        if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
            return self._overdue()
        refusals = (exceptions.AuthenticationError, exceptions.NoPermissionError)
        if isinstance(error, refusals) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return StoreUnavailable(
                self.name,
                "it refuses the user name or password: check them, and that the user may run EVALSHA, EVAL and TIME",
            )
        if "DB index" in text:
            return StoreUnavailable(self.name, "it has no database of this number: check the URL's path")
        if isinstance(error, exceptions.ResponseError):
            return self._refused(text)
        return StoreUnavailable(self.name, f"it cannot be reached: check the address, and that it runs ({text})")


def _words(script: plans.Script) -> tuple[str | int | bytes, ...]:
    """The call in words. The keys are UTF-8, whatever encoding a client of somebody's has."""
    command, body = ("EVAL", script.text) if script.is_whole else ("EVALSHA", script.sha)
    return (command, body, len(script.keys), *[key.encode() for key in script.keys], *script.arguments)


def _decisions(answers: list[Answer]) -> list[Decision]:
    """The decisions of one caller, who takes an outage for any of its groups as one for all.

    :raises StoreOutage: if there is one.
    """
    decisions = []
    for answer in answers:
        if isinstance(answer, StoreOutage):
            raise answer
        decisions.append(answer)
    return decisions


def _is_intact(error: BaseException) -> bool:
    """Can a connection be used again after `error`?

    Not if we were interrupted: the next answer on it would be to this question. Nor if the server has become a
    replica: a new connection may find the new primary.
    """
    return isinstance(error, exceptions.ResponseError) and not isinstance(error, exceptions.ReadOnlyError)


def _translate(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise StoreURLError(
            f"store URL {_shown(url)} is not understood: "
            f"it starts with one of {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    before = rest.partition("@")[0]
    if "@" in rest and "@" not in authority and "=" not in before and scheme != "unix":
        raise StoreURLError(
            f"store URL {_shown(url)} is not understood: a '/', '?' or '#' in a password is written %2F, %3F or %23"
        )
    path = rest[len(authority) :].split("?")[0].strip("/")
    if scheme != "unix" and not re.fullmatch("[0-9]*", path):
        raise StoreURLError(f"store URL {_shown(url)} is not understood: its path is the number of a database")
    return f"{SCHEMES[scheme]}://{rest}"


def _shown(url: str) -> str:
    """The URL without what is secret in it: no query, and just the scheme where there may be user information."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "without a scheme"
    return repr(f"{scheme}://" + ("..." if "@" in rest else re.split("[?#]", rest, maxsplit=1)[0]))


def _unsecret(error: Exception, url: str) -> str:
    """What redis-py says of a URL, unless it quotes from what may be secret."""
    secret = url.partition("://")[2].rpartition("@")[0]
    text = str(error)
    return "it is not understood" if any(part and part in text for part in re.split(r"[:/?#]", secret)) else text


def _describe(pool: Any) -> str:
    options = pool.connection_kwargs
    db = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}?db={db}"
    scheme = "rediss" if "SSL" in pool.connection_class.__name__ else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"

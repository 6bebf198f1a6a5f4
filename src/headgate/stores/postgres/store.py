"""The PostgreSQL store: one function call for a batch, by the server's clock. PostgreSQL 14 or later.

This module must not know any algorithm: it carries the plan's commands to the server. A spend that timed out may have
been counted, and is never sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import iscoroutinefunction
from typing import Any, Final, Literal

try:
    import psycopg  # noqa: F401  # here, because what imports it below would not say which extra it is of
except ModuleNotFoundError as error:  # pragma: no cover - the suite always has it
    from headgate.errors import MissingExtra

    raise MissingExtra("psycopg", "postgres") from error

from headgate.breaker import DEFAULT, Breaker
from headgate.errors import InvalidUse
from headgate.keys import check_prefix
from headgate.plans.postgres import DEFAULT_SCHEMA, check_schema
from headgate.stores.contract import Entry
from headgate.stores.postgres import scanning
from headgate.stores.postgres.address import Hosts, Parameters, describe, parameters_of, parse, with_environment
from headgate.stores.postgres.connection import Statement
from headgate.stores.postgres.pools import NoConnections, PoolConnections
from headgate.stores.postgres.server import Server
from headgate.stores.postgres.threads import Connections, OwnConnections
from headgate.stores.remote import RemoteStore, Terms

DEFAULT_CONNECTIONS: Final = 4


class PostgresStore(RemoteStore):
    """State in a table of PostgreSQL, shared by everyone who asks the same database with the same prefix.

    :param url: `postgresql://[user[:password]@][host][:port][/database][?parameter=value]`, as libpq takes it
        (`postgres://` means the same). What is left out comes from where libpq looks: `PGHOST`, `~/.pgpass` and so on.
    :param username: as whom to log in, in place of the URL's.
    :param password: the password, in place of the URL's.
    :param pool: your own `psycopg_pool.ConnectionPool` or `AsyncConnectionPool` in place of a URL. The first serves
        `Limiter`, the second `AsyncLimiter`, in its event loop. The store takes a connection for each round trip, in
        autocommit, and leaves no state in it; it never closes the pool.
    :param schema: the database schema that has the table and the functions. It is made at the first use, if the role
        may; if not, `headgate schema postgres` prints it.
    :param unlogged: make the table `UNLOGGED`: quicker, and emptied by a crash of the server. Counts when the table is
        made.
    :param prefix: the first part of every row's key.
    :param timeout: the deadline of a call, in seconds, with connecting and waiting for locks.
    :param coalesce: let calls that come while a round trip is under way go together in the next one. The decisions
        are the same; a busy process makes far fewer round trips.
    :param remember_denials: for how many seconds at most a denial is repeated without asking the server again, while
        it is known that the server would deny; 0 for not at all. See docs/speed.md.
    :param breaker: when to stop asking a server that fails, so that nobody waits for it; False for never. See
        docs/outages.md.
    :param max_connections: how many connections threads have at most, and each event loop. More than one or two are
        needed only without coalescing.
    :raises StoreURLError: if the URL is not understood.
    :raises InvalidUse: if the pool is none, or an option is not usable.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        pool: Any = None,
        schema: str = DEFAULT_SCHEMA,
        unlogged: bool = False,
        prefix: str = "headgate",
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        breaker: Breaker | Literal[False] = DEFAULT,
        max_connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        login = {"user": username, "password": password}
        login = {name: value for name, value in login.items() if value is not None}
        if pool is not None and (url is not None or login):
            raise InvalidUse("a store takes a pool or a URL with its user and password, not both")
        if pool is None and not isinstance(url, (str, type(None))):
            raise InvalidUse(
                f"url is a str, not {type(url).__name__}: give a pool by its name, PostgresStore(pool=...)"
            )
        if type(max_connections) is not int or max_connections < 1:
            raise InvalidUse(f"max_connections is an integer of at least 1, not {max_connections!r}")
        terms = Terms(timeout=timeout, coalesce=coalesce, remember_denials=remember_denials, breaker=breaker)
        own = {
            "schema": check_schema(schema),
            "unlogged": bool(unlogged),
            "prefix": check_prefix(prefix),
            "max_connections": max_connections,
        }
        awaited: Any = None
        hosts = Hosts()
        if pool is None:
            parameters = with_environment({**parse("postgresql://" if url is None else url), **login})
            connections: Connections = OwnConnections(parameters, max_connections, hosts)
        else:
            parameters = _parameters_of(pool)
            if iscoroutinefunction(pool.getconn):
                connections, awaited = NoConnections(), pool
            else:
                connections = PoolConnections(pool)
                self.serves_event_loops = False
        self._server: Final = Server(
            describe(parameters),
            terms,
            parameters=parameters,
            hosts=hosts,
            connections=connections,
            pool=awaited,
            **own,  # type: ignore[arg-type]  # checked above
        )
        made_from = (
            None
            if pool is not None
            else {
                "url": url,
                "username": username,
                "password": password,
                **own,
                **terms.options,
            }
        )
        super().__init__(self._server, terms, made_from)

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """As `ScannableStore.scan`, a page at a time."""
        return scanning.scan(self._server, key_prefix, name, name_prefix)

    @property
    def schema(self) -> str:
        """The database schema that it uses."""
        return self._server.schema

    def rows(self, statement: str) -> list[tuple[str | None, ...]]:
        """Run a statement of an operator's, blocking: the rows of its result, as PostgreSQL writes them.

        :raises StoreOutage: if the server does not answer, or with an error.
        """
        result = self._server.execute(Statement(statement.encode(), has_binary_result=False))
        rows = range(result.ntuples)
        columns = range(result.nfields)
        return [tuple(_text_of(result.get_value(row, column)) for column in columns) for row in rows]

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """As `ScannableStore.clear`, a page at a time."""
        count = scanning.clear(self._server, key_prefix, name, name_prefix)
        self._learnt.clear()
        return count

    def restore(self, entries: Iterable[Entry], /) -> int:
        """As `ScannableStore.restore`, some hundred at a time."""
        count = scanning.restore(self._server, entries)
        self._learnt.clear()
        return count


def _text_of(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _parameters_of(pool: Any) -> Parameters:
    """The parameters that a pool connects with.

    :raises InvalidUse: if it is none.
    """
    if not callable(getattr(pool, "getconn", None)) or not callable(getattr(pool, "putconn", None)):
        raise InvalidUse(
            f"pool must be a psycopg_pool.ConnectionPool or an AsyncConnectionPool, not {type(pool).__name__}"
        )
    return parameters_of(pool)

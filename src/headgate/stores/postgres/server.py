"""One database: how it answers a batch, blocking and in an event loop.

This module must not know what the functions do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import pq

from headgate.batching import Arrive
from headgate.decision import Answer
from headgate.drive import Plan, drive, drive_async
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Group, SingleHit
from headgate.plans import postgres as plans
from headgate.plans.postgres import Install, Query, SchemaMissing
from headgate.plans.postgres.packing import Terms as CallTerms
from headgate.plans.postgres.schema import TYPES
from headgate.runtime.names import NameOverdue
from headgate.stores.postgres.address import Hosts, Parameters
from headgate.stores.postgres.connection import Busy, Statement, run_blocking
from headgate.stores.postgres.failures import MISSING, OF_KEYS, SCHEMA_HINT, problem_of
from headgate.stores.postgres.tasks import LoopConnections
from headgate.stores.postgres.threads import Connections
from headgate.stores.remote import Endpoint, Terms
from headgate.stores.remote.endpoint import begin_task


class Server(Endpoint):
    """A database, or a pooler of one.

    :param parameters: how to connect.
    :param hosts: the order in which its hosts are tried.
    :param connections: those of threads.
    :param pool: a user's asyncio pool, if there is one.
    """

    def __init__(
        self,
        name: str,
        terms: Terms,
        *,
        parameters: Parameters,
        hosts: Hosts,
        connections: Connections,
        pool: Any,
        prefix: str,
        schema: str,
        unlogged: bool,
        max_connections: int,
    ) -> None:
        self._parameters: Final = parameters
        self._hosts: Final = hosts
        self._threads_connections: Final = connections
        self._pool: Final = pool
        self.prefix: Final = prefix
        self.schema: Final = schema
        self.table: Final = plans.table(schema)
        self._unlogged: Final = unlogged
        self._max_connections: Final = max_connections
        # Who waits for a lock is told so before the caller has gone.
        self._lock_ms: Final = max(1, int(min(terms.timeout_s, 86_400) * 800))
        super().__init__(name, terms)

    def plan(self, groups: Sequence[Group]) -> Plan[Query | Install, list[Answer]]:
        """The plan for a batch."""
        near_us, now_us = self.learnt.near_us(), self.learnt.now_us()
        terms = CallTerms(self.prefix, self._lock_ms)
        return plans.decide(groups, terms, near_us=near_us, now_us=now_us, refused=self.refused)

    def answer(self, groups: Sequence[Group], left_s: float | None = None) -> list[Answer]:
        deadline = time.monotonic() + (self.timeout_s if left_s is None else left_s)
        return drive(self.plan(groups), lambda command: self._meaning(command, self._ask(command, deadline)))

    async def answer_async(self, groups: Sequence[Group]) -> list[Answer]:
        return await drive_async(self.plan(groups), self._send_async)

    def begin_alike(self, single: SingleHit, keys: Sequence[str], arrive: Arrive) -> Callable[[], None]:
        if len(keys) == 1 or self.learnt.clock is not None or not plans.is_alike(single):
            return super().begin_alike(single, keys, arrive)
        plan = plans.decide_alike(single, keys, CallTerms(self.prefix, self._lock_ms), refused=self.refused)
        return begin_task(drive_async(plan, self._send_async), arrive)

    def execute(self, statement: Statement) -> Any:
        """Run any statement, blocking, and return its result.

        :raises StoreOutage: if the server does not answer, or with an error.
        """
        return self._done(self._run(statement, time.monotonic() + self.timeout_s))

    @contextmanager
    def transaction(self) -> Iterator[Callable[[Statement], Any]]:
        """A transaction, blocking: what it hands out runs a statement in it, as `execute` does. It is over with the
        block, within the deadline of one call.

        :raises StoreOutage: if the server does not answer, or with an error.
        """
        deadline = time.monotonic() + self.timeout_s
        try:
            connection = self._threads_connections.take(deadline)
            is_over = False

            def execute(statement: Statement) -> Any:
                return self._done(run_blocking(connection.asking(statement), deadline))

            try:
                execute(Statement(b"begin"))
                yield execute
                execute(Statement(b"commit"))
                is_over = True
            finally:
                connection.is_usable = connection.is_usable and is_over  # closed, it is rolled back
                self._threads_connections.put(connection)
        except (psycopg.Error, OSError, Busy) as error:
            raise self.outage(error) from error

    def _done(self, result: Any) -> Any:
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return result
        raise self._failure(result)

    def install(self) -> None:
        """Make the schema, unless it is there.

        :raises StoreOutage: if that fails.
        """
        self._meaning(Install(), self._ask(Install(), time.monotonic() + self.timeout_s))

    def _ask(self, command: Query | Install, deadline: float) -> Any:
        return self._run(self._statement(command), deadline)

    def _run(self, statement: Statement, deadline: float) -> Any:
        try:
            connection = self._threads_connections.take(deadline)
            try:
                return run_blocking(connection.asking(statement), deadline)
            finally:
                self._threads_connections.put(connection)
        except (psycopg.Error, OSError, Busy) as error:
            raise self.outage(error) from error

    async def _send_async(self, command: Query | Install) -> Any:
        connections: LoopConnections = self.connection()
        try:
            connection = await connections.take()
            try:
                result = await connections.run(connection.asking(self._statement(command)))
            finally:
                connections.put(connection)
        except (psycopg.Error, OSError, Busy) as error:
            raise self.outage(error) from error
        return self._meaning(command, result)

    def _statement(self, command: Query | Install) -> Statement:
        if isinstance(command, Query):
            text = plans.statement(self.schema, command.function)
            return Statement(text, command.parameters, TYPES[command.function])
        return Statement(plans.schema_text(self.schema, unlogged=self._unlogged).encode())

    def _meaning(self, command: Query | Install, result: Any) -> Any:
        """Turn a result into a value for the plan: itself, or the news that the schema is missing.

        :raises StoreOutage: if it is an error.
        """
        if result.status == pq.ExecStatus.TUPLES_OK:
            return result.get_value(0, 0)
        if result.status == pq.ExecStatus.COMMAND_OK:
            return None
        sqlstate = _field(result, pq.DiagnosticField.SQLSTATE)
        if isinstance(command, Query) and sqlstate in MISSING:
            return SchemaMissing()
        if isinstance(command, Install) and sqlstate == "42501":
            words = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
            missing = f"its schema, or version {plans.VERSION} of the functions there, is missing"
            raise self.refused(f"{missing}, and this role may not make it ({words}): {SCHEMA_HINT}")
        raise self._failure(result)

    def _failure(self, result: Any) -> StoreOutage:
        sqlstate = _field(result, pq.DiagnosticField.SQLSTATE)
        words = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message.decode(errors="replace")
        outage = self.refused(problem_of(sqlstate, words))
        outage.is_of_server = sqlstate not in OF_KEYS
        return outage

    def refused(self, text: str) -> StoreOutage:
        """Make an outage of what is wrong."""
        return StoreUnavailable(self.name, text)

    def outage(self, error: Exception) -> StoreOutage:
        """The outage that an error on connecting, sending or receiving means."""
        if isinstance(error, Busy):
            return self.refused(f"no connection was free in time: {error}")
        if isinstance(error, NameOverdue):
            return StoreTimeout(self.name, str(error))
        if isinstance(error, TimeoutError):
            return self.overdue()
        sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
        return self.refused(problem_of(sqlstate, str(error)))

    def open_in_loop(self) -> LoopConnections:
        most, pool_timeout_s = self._max_connections, self._lock_ms / 1_000
        return LoopConnections(self._parameters, most, self._hosts, self.timeout_s, self._pool, pool_timeout_s)

    def close_idle(self) -> None:
        self._threads_connections.close_idle()


def _field(result: Any, field: pq.DiagnosticField) -> str | None:
    value = result.error_field(field)
    return None if value is None else value.decode(errors="replace")

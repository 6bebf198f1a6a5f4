"""The examination of PostgreSQL: its version, headgate's schema there, and what the role may do with it.

Nothing is made: where there is no schema yet, that is all that is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from headgate.cli.findings import Finding
from headgate.plans.postgres import VERSION
from headgate.plans.postgres.schema import table

if TYPE_CHECKING:
    from headgate.stores.postgres import PostgresStore

OLDEST: Final = 14
RIGHTS: Final = ("select", "insert", "update", "delete")


def examine(store: PostgresStore) -> Iterator[Finding]:
    """Examine a database."""
    ((number, role, database, is_standby, isolation),) = store.rows(
        "select current_setting('server_version'), current_user, current_database(), pg_is_in_recovery()::text, "
        "current_setting('default_transaction_isolation')"
    )
    yield Finding("ok", "reachable", f"database {database}, as {role}")
    is_old = int((number or "0").split(".")[0].split(" ")[0]) < OLDEST
    remedy = f"it takes PostgreSQL {OLDEST} or later"
    yield (
        Finding("fault", "version", f"PostgreSQL {number}", remedy)
        if is_old
        else Finding("ok", "version", f"PostgreSQL {number}")
    )
    if is_standby == "true":
        yield Finding("fault", "role", "it is a standby, which cannot write", "name the primary in the URL")
    if isolation != "read committed":
        yield Finding(
            "fault", "isolation", f"transactions are {isolation}", "set default_transaction_isolation to read committed"
        )
    yield from _schema(store)
    yield from _durability(store)


def _schema(store: PostgresStore) -> Iterator[Finding]:
    schema = store.schema
    ((has_table, has_functions, may_create, may_use),) = store.rows(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace "  # noqa: S608  # a checked name
        f"where n.nspname = '{schema}' and c.relname = 'state'), "
        "exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where n.nspname = '{schema}' and p.proname = 'decide_v{VERSION}'), "
        f"coalesce((select has_schema_privilege(oid, 'create') from pg_namespace where nspname = '{schema}'), "
        "has_database_privilege(current_database(), 'create')), "
        f"(select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = '{schema}')"
    )
    printed = "headgate schema postgres --grant ROLE | psql, as a role that may"
    if has_table != "t" or has_functions != "t":
        missing = (
            f"schema {store.schema}, version {VERSION} of its functions"
            if has_table == "t"
            else f"schema {store.schema}"
        )
        if may_create == "t":
            yield Finding("note", "schema", f"{missing} is not there yet: the first decision makes it")
        else:
            yield Finding("fault", "schema", f"{missing} is not there, and this role may not make it", printed)
        return
    yield Finding("ok", "schema", f"{store.schema}, version {VERSION} of its functions")
    if may_use != "t":
        yield Finding("fault", "rights", "the role has no usage of the schema", printed)
        return
    asked = ", ".join(f"has_table_privilege('{table(schema)}', '{right}')" for right in RIGHTS)
    (held,) = store.rows(f"select {asked}")
    missing_rights = [right for right, has in zip(RIGHTS, held, strict=True) if has != "t"]
    if missing_rights:
        yield Finding("fault", "rights", f"the role has no {', '.join(missing_rights)} on the table", printed)
    else:
        yield Finding("ok", "rights", "the role may read and write the table")


def _durability(store: PostgresStore) -> Iterator[Finding]:
    ((fsync, kept),) = store.rows(
        "select current_setting('fsync'), (select c.relpersistence from pg_class c "  # noqa: S608  # likewise
        f"join pg_namespace n on n.oid = c.relnamespace where n.nspname = '{store.schema}' and c.relname = 'state')"
    )
    if kept == "u":
        yield Finding("note", "persistence", "the table is UNLOGGED: a crash of the server empties it, and a failover")
    elif fsync == "off":
        yield Finding("change", "persistence", "fsync is off: a crash may damage the database", "fsync = on")
    else:
        yield Finding("ok", "persistence", "what is owed outlasts a crash, as the database does")

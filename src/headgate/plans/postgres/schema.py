"""The schema: one table, and the functions that decide. All of it is text here, and made by whoever has a connection.

The table's rows outlive a version of the functions. These have the version in their names, so that old and new
processes can ask the same database while a new release is rolled out.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Final

from headgate.errors import InvalidUse
from headgate.plans.postgres.binary import BYTEA, BYTEA_ARRAY, INT4, INT8, INT8_ARRAY, TEXT_ARRAY

VERSION: Final = 3
"""To be raised whenever a function changes."""
DEFAULT_SCHEMA: Final = "headgate"
_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")
_ROLE: Final = re.compile(r'[^"\x00-\x1f]{1,63}')

FILES: Final = (
    "cells.sql",
    "token_bucket_notes.sql",
    "token_bucket_turns.sql",
    "token_bucket.sql",
    "fixed_window.sql",
    "sliding_window.sql",
    "sliding_log.sql",
    "concurrency.sql",
    "penalty.sql",
    "sweep.sql",
    "decide.sql",
    "token_bucket_each.sql",
    "token_bucket_single.sql",
)
FIRST: Final = "decide"
"""A function that is there if all are: they are made in one transaction."""
_TEXTS: Final = {
    name: resources.files("headgate.algorithms").joinpath(name).read_text("utf-8") for name in ("state.sql", *FILES)
}
"""They are read here, and not in a call, where a signal might interrupt it."""

TYPES: Final = {
    "decide": (INT4, INT8, INT4, BYTEA_ARRAY, INT8_ARRAY, TEXT_ARRAY),
    "token_bucket_each": (INT4, BYTEA_ARRAY, *[INT8_ARRAY] * 6),
    "token_bucket_single": (INT4, BYTEA, *[INT8] * 5),
}
"""The types of the parameters of each function that is called."""


def check_schema(name: object) -> str:
    """Hand back a usable name of a schema.

    :raises InvalidUse: if it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidUse(f"schema is a name of at most 63 letters, digits and underscores, not {name!r}")
    return name


def quoted(name: str) -> str:
    """A name as it is written in SQL."""
    return f'"{name}"'


def table(schema: str) -> str:
    """The table, as it is written in SQL."""
    return f"{quoted(schema)}.state"


@functools.cache
def statement(schema: str, function: str) -> bytes:
    """The statement that calls a function."""
    parameters = ", ".join(f"${number}" for number in range(1, len(TYPES[function]) + 1))
    return f"select {quoted(schema)}.{function}_v{VERSION}({parameters})".encode()


def _named(text: str, schema: str) -> str:
    """The text with the names as they are in this schema: all but the table has the version."""

    def name(found: re.Match[str]) -> str:
        own = found[1] if found[1] == "state" else f"{found[1]}_v{VERSION}"
        return f"{quoted(schema)}.{own}"

    return re.sub(r"\bheadgate\.([a-z_]+)", name, text)


def grants_text(schema: str, role: str) -> str:
    """The statements that grant a role all that it needs to decide, and no more.

    :raises InvalidUse: if that is no usable name.
    """
    if not _ROLE.fullmatch(role):
        raise InvalidUse(f"a role is a name of at most 63 characters, without quotes, not {role!r}")
    return f"""grant usage on schema {quoted(schema)} to {quoted(role)};
grant select, insert, update, delete on {table(schema)} to {quoted(role)};
grant execute on all functions in schema {quoted(schema)} to {quoted(role)};
"""


@functools.cache
def schema_text(schema: str = DEFAULT_SCHEMA, *, unlogged: bool = False) -> str:
    """The statements that make the schema, or that part of it which is missing. May be run at any time, and by several
    at a time: the others wait.
    """
    table = _named(_TEXTS["state.sql"], schema)
    if unlogged:
        table = table.replace("create table", "create unlogged table")
    functions = _named("\n".join(_TEXTS[name] for name in FILES), schema)
    return f"""-- The schema of headgate: its table, and version {VERSION} of its functions.
do $headgate$
begin
  perform pg_advisory_xact_lock(hashtextextended('headgate.{schema}', 0));
  if to_regnamespace('{quoted(schema)}') is null then
    create schema {quoted(schema)};
  end if;
  if to_regclass('{quoted(schema)}.state') is null then

{table}
  end if;
  if to_regproc('{quoted(schema)}.{FIRST}_v{VERSION}') is not null then
    return;
  end if;

{functions}
end
$headgate$;
"""

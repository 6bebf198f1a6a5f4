"""The plans for PostgreSQL: one function call for a whole batch.

They ask for `Query` commands, whose reply is the function's array of integers as it came, or `SchemaMissing` where the
database does not have the functions; and then for `Install`, once. What is sent is packed here, in PostgreSQL's binary
format, since that takes longer than all else that is done for a call.

- `binary.py`: values in the binary format.
- `places.py`: where the state of a limit for a key is kept.
- `schema.py`: the table and the functions.
- `packing.py`: from groups to a call. `replies.py`: from a reply to decisions. `each.py`: both for the commonest batch.
- `batch.py`: the plan for any batch. `alike.py`: that for single hits that differ in their keys alone.
"""

from __future__ import annotations

from headgate.plans.postgres.alike import decide_alike, is_alike
from headgate.plans.postgres.batch import decide
from headgate.plans.postgres.commands import Install, Query, SchemaMissing
from headgate.plans.postgres.schema import (
    DEFAULT_SCHEMA,
    VERSION,
    check_schema,
    grants_text,
    schema_text,
    statement,
    table,
)

__all__ = [
    "DEFAULT_SCHEMA",
    "VERSION",
    "Install",
    "Query",
    "SchemaMissing",
    "check_schema",
    "decide",
    "decide_alike",
    "grants_text",
    "is_alike",
    "schema_text",
    "statement",
    "table",
]

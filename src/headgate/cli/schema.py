"""`headgate schema`: prints the statements that make a database's schema, for where the app's own role may not.

Nothing is connected, and no client library is needed.
"""

from __future__ import annotations

import click


@click.group(short_help="print the schema that a store needs in a database")
def command() -> None:
    """Print statements for a migration, or for a role that may run them."""


@command.command(
    short_help="print that of PostgreSQL",
    epilog="For example: headgate schema postgres | psql postgresql://owner@host/database",
)
@click.option("--schema", default="headgate", help="The database schema; headgate by default.")
@click.option("--unlogged", "is_unlogged", is_flag=True, help="Quicker, and emptied by a crash of the server.")
@click.option("--grant", metavar="ROLE", help="Grant a role what the app needs, and no more.")
def postgres(schema: str, grant: str | None, *, is_unlogged: bool) -> int:
    """Print the schema for PostgreSQL. It may be run again at any time: what is there stays."""
    from headgate.plans.postgres import check_schema, grants_text, schema_text

    checked = check_schema(schema)
    granted = "" if grant is None else grants_text(checked, grant)
    print(schema_text(checked, unlogged=is_unlogged))
    if granted:
        print(granted)
    return 0

"""`headgate schema`: prints the statements that make a database's schema, for where the app's own role may not.

Nothing is connected, and no client library is needed.
"""

from __future__ import annotations

import argparse
import sys

from headgate.errors import InvalidUse

NOT_UNDERSTOOD = 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "schema",
        help="print the schema that a store needs in a database",
        description="Prints statements for a migration, or for a role that may run them.",
    )
    databases = command.add_subparsers(title="databases", metavar="DATABASE", required=True)
    postgres = databases.add_parser(
        "postgres",
        help="print that of PostgreSQL",
        description="Prints the schema for PostgreSQL. It may be run again at any time: what is there stays.",
        epilog="For example: headgate schema postgres | psql postgresql://owner@host/database",
    )
    postgres.add_argument("--schema", default="headgate", help="the database schema; headgate by default")
    postgres.add_argument("--unlogged", action="store_true", help="quicker, and emptied by a crash of the server")
    postgres.add_argument("--grant", metavar="ROLE", help="grant a role what the app needs, and no more")
    postgres.set_defaults(run=print_postgres)


def print_postgres(arguments: argparse.Namespace) -> int:
    """Run `headgate schema postgres`."""
    from headgate.plans.postgres import check_schema, grants_text, schema_text

    try:
        schema = check_schema(arguments.schema)
        print(schema_text(schema, unlogged=arguments.unlogged))
        if arguments.grant is not None:
            print(grants_text(schema, arguments.grant))
    except InvalidUse as error:
        print(f"headgate: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    return 0

"""The commands that the plans for PostgreSQL ask for. This module must not know who does it, nor how."""

from __future__ import annotations

from typing import NamedTuple


class Query(NamedTuple):
    """Call a function of the schema. The reply is the array that it answers, in the binary format, or
    `SchemaMissing`.
    """

    function: str
    """Its name, without schema and version."""
    parameters: tuple[bytes | None, ...]
    """In the binary format."""


class Install(NamedTuple):
    """Make the schema, unless it is there by now."""


class SchemaMissing:
    """The reply of a database that does not have the functions (of this version)."""

"""The JSON schema of configuration files, for editors. It is that of the tables' description.

This module must not know a file.
"""

from __future__ import annotations

from typing import Final

from headgate.config.kinds import Json
from headgate.config.tables import DOCUMENT

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> Json:
    """The schema of what is accepted, as far as a schema can say it: that a store of a name is there, or that a limit
    in words is understood, is seen when a file is loaded.
    """
    return {"$schema": DRAFT, "title": "headgate configuration", **DOCUMENT.schema()}

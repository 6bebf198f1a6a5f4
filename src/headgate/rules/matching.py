"""Patterns of paths: `/login`, `/users/{id}`, `/api/*`.

`{name}` is one part between slashes, and `*` is anything, slashes too; `/api/*` is `/api` as well. A slash more or less
at the end, or several in a row, change nothing: a pattern never means less than a framework may route. Case counts.
"""

from __future__ import annotations

import re
from typing import Final

from headgate.errors import InvalidUse

_SLASHES: Final = re.compile(r"//+")
_PART: Final = re.compile(r"(\*|\{[^{}/]*\})")


def plain_path(path: str) -> str:
    """A path as patterns see it: with one slash between parts, and none at the end."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/"


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as an expression that matches whole plain paths.

    :raises InvalidUse: if it does not begin with a slash or a `*`.
    """
    if not pattern.startswith(("/", "*")):
        raise InvalidUse(f"a path pattern begins with '/', such as '/api/*', not {pattern!r}")
    text = pattern if pattern.startswith("*") else plain_path(pattern)
    ends_open = text.endswith("/*")
    parts = _PART.split(text.removesuffix("/*"))
    expression = "".join(
        ".*" if part == "*" else "[^/]+" if part.startswith("{") else re.escape(part) for part in parts
    )
    return re.compile(expression + ("(?:/.*)?" if ends_open else ""), re.DOTALL)

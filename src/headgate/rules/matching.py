"""Patterns of paths: `/login`, `/users/{id}`, `/api/*`.

`{name}` is one part between slashes, and `*` is anything, slashes too; `/api/*` is `/api` as well, and `/*/x` is `/x`.
Templates of Starlette may be given as they are: `{name:path}` is anything, `{name:int}` one part. A slash more or less
at the end, several in a row, or a line break at the end, change nothing: a pattern never means less than a framework
may route. Case counts.
"""

from __future__ import annotations

import re
from typing import Final

from headgate.errors import InvalidUse

ENCODED_SLASH: Final = "%2F"
"""How a path has a slash that was encoded, where a framework may be one that sees the difference."""
_SLASHES: Final = re.compile(r"//+")
_ANYTHING: Final = re.compile(r"\{[^{}/]*:path\}")
_PART: Final = re.compile(r"(/\*(?=/|$)|\*|\{[^{}/]*\})")
_OF_FLASK_OR_DJANGO: Final = re.compile(r"<[^<>/]*>")
_END: Final = r"(?:/?\n)?"
"""Where Python's `$` sees the end: Starlette leads `/login` and `/login%0A` to one route."""


def plain_path(path: str) -> str:
    """A path as patterns see it: with one slash between parts, and none at the end."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.rstrip("/") or "/"


def readings(path: str) -> tuple[str, ...]:
    """A path in each way in which it may be routed, plain: some frameworks take `%2F` for a slash, and to others it is
    a letter of a part.
    """
    plain = plain_path(path)
    return (plain,) if ENCODED_SLASH not in path else (plain, plain_path(path.replace(ENCODED_SLASH, "/")))


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as an expression that matches whole plain paths.

    :raises InvalidUse: if it does not begin with a slash or a `*`, or has parts as Flask and Django write them.
    """
    if not pattern.startswith(("/", "*")):
        raise InvalidUse(f"a path pattern begins with '/', such as '/api/*', not {pattern!r}")
    foreign = _OF_FLASK_OR_DJANGO.search(pattern)
    if foreign is not None:
        raise InvalidUse(
            f"a part of a path pattern is written {{id}}, or * for anything, not {foreign[0]} in {pattern!r}"
        )
    text = _ANYTHING.sub("*", pattern)
    text = text if text.startswith("*") else plain_path(text)
    expression = "".join(
        "(?:/.*)?" if part == "/*" else ".*" if part == "*" else "[^/]+" if part.startswith("{") else re.escape(part)
        for part in _PART.split(text)
    )
    return re.compile(expression + _END, re.DOTALL)

"""Checking that a command's optional packages are there before it starts, and texts that are safe to print.

Looks packages up and imports none of them.
"""

from __future__ import annotations

import importlib.util

from headgate import MissingExtra


def require(extra: str, *packages: str) -> None:
    """Raise `MissingExtra`, with what to type, unless all packages can be found."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(", ".join(missing), extra)


def printable(text: str) -> str:
    """A text without what a terminal would act on."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)

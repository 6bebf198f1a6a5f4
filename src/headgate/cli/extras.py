"""Checking that a command's optional packages are there before it starts.

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

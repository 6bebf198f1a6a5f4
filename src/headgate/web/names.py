"""The names of routes and of what answers them. This module must not know a framework."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def named(methods: Iterable[str], path: str) -> str:
    """The name of a route: `GET /users/{id}`."""
    return f"{'|'.join(methods)} {path}".lstrip()


def name_of(endpoint: Any) -> str:
    """The name of what answers."""
    name: str = getattr(endpoint, "__qualname__", None) or type(endpoint).__qualname__
    return name

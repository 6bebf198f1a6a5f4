"""Structured fields (RFC 9651), read by a parser that is not ours."""

from __future__ import annotations

from typing import Any, Literal

import http_sf


def parsed(text: str, kind: Literal["item", "list", "dictionary"] = "list") -> Any:
    """A field's value. Whatever is none fails."""
    return http_sf.parse(text.encode(), tltype=kind)

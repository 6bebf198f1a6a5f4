"""Store URLs for Redis and Valkey: what is understood, and how a server is named without its secrets.

This module must not know how to connect.
"""

from __future__ import annotations

import re
from typing import Any, Final

from headgate.errors import StoreURLError

SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The URL schemes that are understood, and what redis-py calls them."""


def translate(url: str) -> str:
    """The URL as redis-py understands it.

    :raises StoreURLError: if it is not one of ours.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise StoreURLError(
            f"store URL {shown(url)} is not understood: "
            f"it starts with one of {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    before = rest.partition("@")[0]
    if "@" in rest and "@" not in authority and "=" not in before and scheme != "unix":
        raise StoreURLError(
            f"store URL {shown(url)} is not understood: a '/', '?' or '#' in a password is written %2F, %3F or %23"
        )
    path = rest[len(authority) :].split("?")[0].strip("/")
    if scheme != "unix" and not re.fullmatch("[0-9]*", path):
        raise StoreURLError(f"store URL {shown(url)} is not understood: its path is the number of a database")
    return f"{SCHEMES[scheme]}://{rest}"


def shown(url: str) -> str:
    """The URL without what is secret in it: no query, and just the scheme where there may be user information."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "without a scheme"
    return repr(f"{scheme}://" + ("..." if "@" in rest else re.split("[?#]", rest, maxsplit=1)[0]))


def unsecret(error: Exception, url: str) -> str:
    """What redis-py says of a URL, unless it quotes from what may be secret."""
    secret = url.partition("://")[2].rpartition("@")[0]
    text = str(error)
    return "it is not understood" if any(part and part in text for part in re.split(r"[:/?#]", secret)) else text


def describe(connection_class: type, options: dict[str, Any]) -> str:
    """Where a server is, as a URL without user and password."""
    db = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}?db={db}"
    scheme = "rediss" if "SSL" in connection_class.__name__ else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{db}"

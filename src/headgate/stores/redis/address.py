"""Store URLs for Redis and Valkey, and the names of servers without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

import re
from typing import Any, Final

from headgate.errors import StoreURLError
from headgate.plans.topology import Address
from headgate.stores.registry import CLUSTER, CLUSTER_SCHEMES
from headgate.stores.registry import REDIS_SCHEMES as SCHEMES
from headgate.stores.urls import shown

DEFAULT_PORT: Final = 6379


def translate(url: str) -> str:
    """Translate a URL into one that redis-py understands.

    :raises StoreURLError: if it is not one of ours.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise StoreURLError(
            f"store URL {shown(url)} is not understood: "
            f"it starts with one of {', '.join(f'{name}://' for name in (*SCHEMES, *CLUSTER_SCHEMES))}"
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


def is_cluster(url: str) -> bool:
    """Does the URL name a cluster?"""
    return url.partition("://")[0].lower() in CLUSTER_SCHEMES


def without_cluster(url: str) -> str:
    """Make a cluster's URL one of a server."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower().removesuffix(CLUSTER)}://{rest}"


def describe(kind: str, options: dict[str, Any]) -> str:
    """Say where a server is, as a URL without user and password. `kind`: the name of the class of its connections."""
    db = options.get("db") or 0
    if "path" in options:
        return f"unix://{options['path']}?db={db}"
    scheme = "rediss" if "SSL" in kind else "redis"
    return f"{scheme}://{Address(options.get('host', 'localhost'), options.get('port', DEFAULT_PORT))}/{db}"


def describe_cluster(seeds: list[Address], *, is_secure: bool) -> str:
    """Say where a cluster is, as a URL without user and password."""
    return f"{'rediss' if is_secure else 'redis'}{CLUSTER}://{','.join(map(str, seeds))}"

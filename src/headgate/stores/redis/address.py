"""Store URLs for Redis and Valkey, and the names of servers without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from headgate.plans.topology import Address
from headgate.stores.registry import CLUSTER, CLUSTER_SCHEMES, SENTINEL, SENTINEL_SCHEMES
from headgate.stores.registry import REDIS_SCHEMES as SCHEMES
from headgate.stores.remote.urls import not_understood, split_hosts, split_scheme

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_OF_SENTINELS: Final = "sentinel_"
"""Options that begin so are for the connections to sentinels."""


def translate(url: str) -> str:
    """Translate a URL into one that redis-py understands.

    :raises StoreURLError: if it is not one of ours.
    """
    scheme, rest = split_scheme(url, (*SCHEMES, *CLUSTER_SCHEMES, *SENTINEL_SCHEMES))
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].split("?")[0].strip("/")
    if scheme != "unix" and not re.fullmatch("[0-9]*", path):
        raise not_understood(url, "its path is the number of a database")
    return f"{SCHEMES[scheme]}://{rest}"


def is_cluster(url: str) -> bool:
    """Does the URL name a cluster?"""
    return url.partition("://")[0].lower() in CLUSTER_SCHEMES


def without_cluster(url: str) -> str:
    """Make a cluster's URL one of a server."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower().removesuffix(CLUSTER)}://{rest}"


class SentinelsURL(NamedTuple):
    """A URL and options, by which sentinels are asked for the primary of a service, as those of one server each."""

    sentinels: list[Address]
    service: str
    url: str
    """As that of the primary, but for its place."""
    options: dict[str, Any]
    """For connections to the primary."""
    sentinel_url: str
    """As those of the sentinels, but for their places."""
    sentinel_options: dict[str, Any]


def is_sentinel(url: str) -> bool:
    """Does the URL name sentinels?"""
    return url.partition("://")[0].lower() in SENTINEL_SCHEMES


def split_sentinels(url: str, options: dict[str, Any]) -> SentinelsURL:
    """Tell apart what is for the sentinels and what is for the servers. What is said of TLS and sockets is for both,
    unless `sentinel_ssl=False` says that the sentinels speak no TLS.

    :raises StoreURLError: if the URL is not understood.
    """
    first, sentinels = split_hosts(url, SENTINEL_PORT)
    scheme, _, rest = first.partition("://")
    scheme = scheme.lower().removesuffix(SENTINEL)
    place, _, query = rest.partition("?")
    authority, _, path = place.rpartition("@")[2].partition("/")
    service, _, db = path.partition("/")
    if not service or not re.fullmatch("[0-9]*", db):
        raise not_understood(
            url,
            "its path is the name of the service that the sentinels watch, and perhaps the number of a database, as in "
            "redis+sentinel://host:26379,host:26379/service/0",
        )
    asked = dict(parse_qsl(query, keep_blank_values=True))
    own_options = _for_sentinels(options)
    own_asked = {name: text for name, text in _for_sentinels(asked).items() if name not in own_options}
    secure = own_options.pop("ssl", own_asked.pop("ssl", SCHEMES[scheme] == "rediss"))
    is_secure = str(secure).lower() not in ("false", "no", "0")
    if not is_secure:
        own_options = {name: value for name, value in own_options.items() if not name.startswith("ssl_")}
        own_asked = {name: text for name, text in own_asked.items() if not name.startswith("ssl_")}
    user, at, _ = place.rpartition("@")
    asked = {name: text for name, text in asked.items() if not name.startswith(_OF_SENTINELS)}
    return SentinelsURL(
        sentinels,
        unquote(service),
        f"{scheme}://{user}{at}{authority}/{db}?{urlencode(asked)}",
        {name: value for name, value in options.items() if not name.startswith(_OF_SENTINELS)},
        f"{'rediss' if is_secure else 'redis'}://{authority}?{urlencode(own_asked)}",
        own_options,
    )


def _for_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    common = {name: value for name, value in options.items() if name.startswith(("ssl_", "socket_"))}
    own = {name: value for name, value in options.items() if name.startswith(_OF_SENTINELS)}
    return common | {name.removeprefix(_OF_SENTINELS): value for name, value in own.items()}


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


def describe_sentinels(sentinels: list[Address], service: str, name: str) -> str:
    """Say where sentinels are, and what they are asked for, as a URL without user and password. `name`: that of a
    server, as `describe` makes it.
    """
    scheme, _, place = name.partition("://")
    return f"{scheme}{SENTINEL}://{','.join(map(str, sentinels))}/{service}/{place.rpartition('/')[2]}"

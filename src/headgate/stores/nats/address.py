"""Store URLs for NATS, and the names of servers without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from headgate.stores.registry import NATS_SCHEMES as SCHEMES
from headgate.stores.remote.urls import not_understood, split_hosts, split_scheme

DEFAULT_PORT: Final = 4222
_TEXTS: Final = frozenset(
    {"bucket", "prefix", "storage", "credentials", "token", "user", "password"}
    | {"tls_ca_certs", "tls_certfile", "tls_keyfile", "tls_hostname"}
)
_NUMBERS: Final = frozenset({"replicas"})


class Target(NamedTuple):
    """Where servers are."""

    name: str
    """Without secrets."""
    servers: tuple[str, ...]
    """The URL of each, as nats-py takes it."""


def read_url(url: str) -> tuple[Target, dict[str, Any]]:
    """Read a URL: the servers, and the options in it.

    :raises StoreURLError: if it is not understood.
    """
    scheme, rest = split_scheme(url, SCHEMES)
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "/" in path or "@" in path or "#" in rest:
        raise not_understood(
            url,
            "behind the hosts come /bucket and ?option=value (a '/', '?', '#' or ',' in a password is written %2F, "
            "%3F, %23 or %2C)",
        )
    _, addresses = split_hosts(f"{scheme}://{authority}", DEFAULT_PORT)
    user, at, _ = authority.rpartition("@")
    servers = tuple(f"{scheme}://{user}{at}{address}" for address in addresses)
    return Target(f"{scheme}://{','.join(map(str, addresses))}", servers), (
        {"bucket": path} if path else {}
    ) | _options(query, url)


def _options(query: str, url: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _NUMBERS and value.isdecimal():
            options[name] = int(value)
        elif name in _TEXTS:
            options[name] = value
        elif name in _NUMBERS:
            raise not_understood(url, f"{name} is a number")
        else:
            raise not_understood(url, f"{name!r} is none of {', '.join(sorted(_TEXTS | _NUMBERS))}")
    return options

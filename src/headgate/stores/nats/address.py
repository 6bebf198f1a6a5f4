"""Store URLs for NATS, and the names of servers without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from headgate.stores.registry import NATS_SCHEMES as SCHEMES
from headgate.stores.remote.urls import check_marks, not_understood, split_hosts, split_scheme, unknown_option

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
    check_marks(url)
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "/" in path:
        raise not_understood(url, "behind the hosts come /bucket and ?option=value")
    _, addresses = split_hosts(f"{scheme}://{authority}", DEFAULT_PORT)
    servers = tuple(f"{scheme}://{address}" for address in addresses)
    options = _options(query, url)
    if path:
        options.setdefault("bucket", path)
    return Target(f"{scheme}://{','.join(map(str, addresses))}", servers), options


def read_login(url: str) -> dict[str, str]:
    """The user information in a URL that is understood, as options: nats-py itself would send it escaped."""
    information = url.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[0]
    user, colon, password = information.partition(":")
    if colon:
        return {"user": unquote(user), "password": unquote(password)}
    return {"token": unquote(user)} if user else {}


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
            raise unknown_option(url, name, _TEXTS | _NUMBERS)
    return options

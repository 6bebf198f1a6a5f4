"""Store URLs for PostgreSQL, and the names of databases without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Any, Final
from urllib.parse import unquote

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headgate.errors import StoreURLError
from headgate.plans.topology import Address
from headgate.stores.registry import POSTGRES_SCHEMES as SCHEMES
from headgate.stores.remote.urls import check_marks, not_understood, shown, split_scheme, unknown_option, unsecret

DEFAULT_PORT: Final = 5432

Parameters = dict[str, Any]
"""The parameters of a connection, as libpq names them."""


def parse(url: str) -> Parameters:
    """The parameters that a URL means.

    :raises StoreURLError: if it is not one of ours.
    """
    _, rest = split_scheme(url, SCHEMES)
    check_marks(url, "/")  # libpq reads on to an "@" behind a "?" or "#"
    if rest.count("@") > 1:
        raise not_understood(url, "an '@' in a user, a password, a database or an option is written %40")
    if re.search(r"\s", rest.strip()):  # libpq leaves it out
        raise not_understood(url, "a space is written %20")
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar != b"D"} | {"ssl"}
    for name in re.findall("(?:^|&)([^=&]*)=", rest.rpartition("@")[2].partition("?")[2]):
        if unquote(name) not in known:
            raise unknown_option(url, unquote(name), known)
    try:
        parameters: Parameters = dict(conninfo_to_dict(f"postgresql://{rest}"))
    except ProgrammingError as error:
        raise StoreURLError(f"store URL {shown(url)}: {unsecret(error, url)}") from None
    ports = str(parameters.get("port", "")).split(",")
    if any(port and not (port.isdecimal() and port.isascii() and 0 < int(port) < 65_536) for port in ports):
        raise not_understood(
            url, "a port is a number from 1 to 65535; in a password, a '/' is written %2F, and an '@' %40"
        )
    return parameters


def describe(parameters: Parameters) -> str:
    """Say where a database is, as a URL without user and password."""
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "localhost").split(",")
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        host if host.startswith("/") else str(Address(host, int(port) if port.isdecimal() else DEFAULT_PORT))
        for host, port in zip(hosts, ports, strict=False)
    ]
    return f"postgresql://{','.join(places)}/{parameters.get('dbname') or parameters.get('user') or ''}"


def parameters_of(pool: Any) -> Parameters:
    """The parameters with which a pool of a user's connects, as far as it tells them."""
    text = getattr(pool, "conninfo", "")
    given = getattr(pool, "kwargs", None) or {}
    known: Parameters = {}
    if isinstance(text, str):
        try:
            known = parse(text) if "://" in text else dict(conninfo_to_dict(text))
        except (
            StoreURLError,
            ProgrammingError,
        ):  # libpq may understand it; what it would take for a host may be secret
            known = {"host": "(a pool of yours)"}
    if isinstance(given, dict):
        known.update({name: given[name] for name in ("host", "hostaddr", "port", "dbname", "user") if name in given})
    return known


def conninfo(parameters: Parameters) -> bytes:
    """The parameters as libpq takes them."""
    return make_conninfo(**{"application_name": "headgate", **parameters, "client_encoding": "UTF8"}).encode()


async def resolved(parameters: Parameters) -> Parameters:
    """The same, with the addresses of its hosts: libpq would block the event loop while it asks for them.

    :raises OSError: if a host is not known.
    """
    if parameters.get("hostaddr") or not parameters.get("host"):
        return parameters
    hosts = str(parameters["host"]).split(",")
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    found: list[tuple[str, str, str]] = []
    for host, port in zip(hosts, ports, strict=False):
        if host.startswith("/") or not host:
            return parameters
        found += [(host, address, port) for address in await _addresses(host)]
    host, addresses, port = (",".join(parts) for parts in zip(*found, strict=True))
    return {**parameters, "host": host, "hostaddr": addresses, "port": port}


async def _addresses(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

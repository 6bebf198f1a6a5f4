"""Store URLs for PostgreSQL, and the names of databases without their secrets.

This module must not know how to connect.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any, Final
from urllib.parse import unquote

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headgate.errors import StoreURLError
from headgate.plans.topology import Address
from headgate.stores.registry import POSTGRES_SCHEMES as SCHEMES
from headgate.stores.remote.urls import check_marks, not_understood, shown, split_scheme, unknown_option, unsecret

DEFAULT_PORT: Final = 5432
_VARIABLES: Final = {"port": "PGPORT", "dbname": "PGDATABASE", "host": "PGHOST", "hostaddr": "PGHOSTADDR"}

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
    places = [
        host if host.startswith("/") else str(Address(host, int(port) if port.isdecimal() else DEFAULT_PORT))
        for host, port in zip(hosts, _ports(parameters, len(hosts)), strict=False)
    ]
    return f"postgresql://{','.join(places)}/{parameters.get('dbname') or parameters.get('user') or ''}"


def _ports(parameters: Parameters, count: int) -> list[str]:
    """The ports of so many hosts: one each, or one for all."""
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    return ports * count if len(ports) == 1 else ports


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


def with_environment(parameters: Parameters) -> Parameters:
    """The same, with the place that libpq would take from the environment."""
    if "service" in parameters or "PGSERVICE" in os.environ:  # its file goes before
        return parameters
    names = ["port", "dbname"]
    if not parameters.get("host") and not parameters.get("hostaddr"):
        names += ["host", "hostaddr"]
    found = {name: os.environ.get(_VARIABLES[name]) for name in names}
    return {**{name: value for name, value in found.items() if value}, **parameters}


class Hosts:
    """The hosts of a database, in the order in which they are tried. Safe to share between threads and event loops.

    libpq stays with a host that is silent until the deadline, and with a standby that answers. So whoever was that is
    tried last from then on.
    """

    def __init__(self) -> None:
        self._late: list[tuple[str, str]] = []

    def avoid(self, host: str, port: str) -> None:
        """Try a host last."""
        self._late = [*(place for place in self._late if place != (host, port)), (host, port)]

    def in_order(self, parameters: Parameters) -> Parameters:
        """The parameters, with their hosts in this order."""
        late = self._late
        what = [name for name in ("host", "hostaddr") if parameters.get(name)]
        if not late or not what:
            return parameters
        columns = [str(parameters[name]).split(",") for name in what]
        columns.append(_ports(parameters, len(columns[0])))

        def lateness(places: tuple[str, ...]) -> int:
            place = (places[0], places[-1] or str(DEFAULT_PORT))
            return late.index(place) if place in late else -1

        rows = sorted(zip(*columns, strict=False), key=lateness)
        ordered = (",".join(column) for column in zip(*rows, strict=True))
        return {**parameters, **dict(zip([*what, "port"], ordered, strict=True))}


def conninfo(parameters: Parameters) -> bytes:
    """The parameters as libpq takes them."""
    return make_conninfo(**{"application_name": "headgate", **parameters, "client_encoding": "UTF8"}).encode()


def resolving(parameters: Parameters) -> Generator[str, list[str], Parameters]:
    """Make of parameters the same with the addresses of their hosts: libpq would look for them without a deadline, and
    block an event loop. Yields each host, and is sent its addresses.

    :raises OSError: if none of them is known, what the last lookup raised.
    """
    if parameters.get("hostaddr") or not parameters.get("host"):
        return parameters
    hosts = str(parameters["host"]).split(",")
    if any(host.startswith("/") or not host for host in hosts):
        return parameters
    found: list[tuple[str, str, str]] = []
    problem: OSError | None = None
    for host, port in zip(hosts, _ports(parameters, len(hosts)), strict=False):
        try:
            found += [(host, address, port) for address in (yield host)]
        except OSError as error:  # another one may be known
            problem = error
    if problem is not None and not found:
        raise problem
    host, addresses, port = (",".join(parts) for parts in zip(*found, strict=True))
    return {**parameters, "host": host, "hostaddr": addresses, "port": port}

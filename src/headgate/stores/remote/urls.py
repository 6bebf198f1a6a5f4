"""Store URLs, whatever their scheme: the hosts that they name, and how they are shown without their secrets."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from headgate.errors import StoreURLError
from headgate.plans.topology import Address


def not_understood(url: str, why: str) -> StoreURLError:
    """The error of a URL that is not understood."""
    return StoreURLError(f"store URL {shown(url)} is not understood: {why}")


def split_scheme(url: str, schemes: Collection[str]) -> tuple[str, str]:
    """Split a URL into its scheme, which is one of these, and what is behind that.

    :raises StoreURLError: if it is none.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in schemes:
        raise not_understood(url, f"it starts with one of {', '.join(f'{name}://' for name in schemes)}")
    return scheme, rest


def split_hosts(url: str, default_port: int) -> tuple[str, list[Address]]:
    """Split a URL that names several hosts into that of the first one, and the addresses of all.

    :raises StoreURLError: if they are not understood.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, hosts = authority.rpartition("@")
    seeds = []
    for node in hosts.split(","):
        try:
            parts = urlsplit(f"//{node}")
            seeds.append(Address(parts.hostname or "", default_port if parts.port is None else parts.port))
        except ValueError:
            seeds.append(Address("", 0))
        if not all(seeds[-1]) or re.search(r"\s", node):
            raise not_understood(url, "several hosts are written host:port,host:port,...")
    first = hosts.split(",")[0]
    return f"{scheme}://{user}{at}{first}{rest[len(authority) :]}", seeds


def shown(url: str) -> str:
    """Show a URL without its secrets: no query, and just the scheme where there may be user information."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "without a scheme"
    return repr(f"{scheme}://" + ("..." if "@" in rest else re.split("[?#]", rest, maxsplit=1)[0]))


def unsecret(error: Exception, url: str) -> str:
    """Repeat what a library says of a URL, unless it quotes from what may be secret."""
    secret = url.partition("://")[2].rpartition("@")[0]
    text = str(error)
    return "it is not understood" if any(part and part in text for part in re.split(r"[:/?#]", secret)) else text

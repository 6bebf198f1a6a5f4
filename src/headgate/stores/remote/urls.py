"""Store URLs, whatever their scheme: the hosts that they name, and how they are shown without their secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote, urlsplit

from headgate.errors import StoreURLError
from headgate.plans.topology import Address


def not_understood(url: str, why: str) -> StoreURLError:
    """The error of a URL that is not understood."""
    return StoreURLError(f"store URL {shown(url)} is not understood: {why}")


def scheme_of(url: str) -> str:
    """The scheme of a URL, in small letters; empty if there is nothing that can be one, but perhaps a secret."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and re.fullmatch(r"[A-Za-z][A-Za-z+]*", scheme) else ""


def check_marks(url: str, ends: str = "/?#") -> None:
    """Refuse a URL of which nobody can tell where its password ends: a part of that would be taken for a host, a path
    or an option, and shown. So behind the hosts, an `@` is escaped.

    :param ends: the characters that end the hosts.
    :raises StoreURLError: if there is such an `@`, a `#` that would end the URL, or an option that is none.
    """
    _, _, rest = url.partition("://")
    hosts = re.split(f"[{ends}]", rest, maxsplit=1)[0]
    if "@" in rest[len(hosts) :] or ("#" in ends and "#" in rest):
        raise not_understood(
            url,
            "an '@' behind the hosts is written %40, and in a password, a '/', '?' or '#' is written %2F, %3F or %23",
        )
    query = rest[len(hosts) :].partition("?")[2]
    if query and not all(re.match("[^=]+=", option) for option in query.split("&")):
        raise not_understood(url, "an option is written name=value, and a '&' in its value %26")


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
    scheme, rest = scheme_of(url), url.partition("://")[2]
    if not scheme:
        return "without a scheme"
    return repr(f"{scheme}://" + ("..." if "@" in rest else re.split("[?#]", rest, maxsplit=1)[0]))


def unsecret(error: Exception, url: str) -> str:
    """Repeat what a library says of a URL, unless it quotes from what may be secret: the user information, or the value
    of an option.
    """
    rest = url.partition("://")[2]
    secret = f"{rest.rpartition('@')[0]} {' '.join(re.findall('=([^&]*)', rest.partition('?')[2]))}"
    words = re.findall(r"\w+", f"{secret} {unquote(secret)}")
    said = str(error).strip().casefold()
    return "it is not understood" if any(word.casefold() in said for word in words) else str(error).strip()


def unknown_option(url: str, name: str, known: Iterable[str]) -> StoreURLError:
    """The error of an option that nobody knows. It is not named where it may be a part of a password whose `&` was not
    escaped.
    """
    names = re.findall("[?&]([^=&]*)=", url)
    has_secret = any(re.search("pass|token|secret", one) for one in names)
    shown_name = repr(name) if name.isidentifier() and not has_secret else "an option (a '&' in a value is written %26)"
    return not_understood(url, f"{shown_name} is none of {', '.join(sorted(known))}")

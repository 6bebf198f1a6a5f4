"""The proxies whose word is taken for who a client is. This module must not know keys, nor a framework."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Final

from headgate.errors import InvalidUse
from headgate.identity.addresses import plain_address
from headgate.identity.forwarded import elements, entries
from headgate.web.messages import WebRequest

UNIX: Final = "unix:"
"""The name of a Unix socket among addresses, as nginx has it."""
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_MAX_HOPS: Final = 64


class Proxies:
    """The proxies in front of an app that are trusted, and the header in which they say who the client is.

        Proxies(count=1)                                     # one proxy, through which all requests come
        Proxies(networks=["10.0.0.0/8"])                     # those of these addresses
        Proxies(networks=["unix:"], header="x-real-ip")      # one at the other end of a Unix socket

    The header is read from the right, and only as far as trusted proxies wrote it: what a client puts into it is never
    reached. What is no address there ends the reading, at the last address that a trusted proxy vouches for. Of other
    headers than `x-forwarded-for` and `forwarded`, such as `cf-connecting-ip`, one line with one address counts.
    Immutable; safe to share between threads and tasks.

    :param count: how many proxies each request comes through. Where fewer have written into the header, the peer is
        the client.
    :param networks: the addresses of proxies; `unix:` for those that come over a Unix socket.
    :param header: the header, in whatever case. No other is read.
    :raises InvalidUse: unless there is either a count or networks, and all is understood.
    """

    def __init__(
        self, *, count: int | None = None, networks: Sequence[str] = (), header: str = "x-forwarded-for"
    ) -> None:
        if isinstance(networks, str):
            networks = (networks,)
        if (count is None) == (not networks):
            raise InvalidUse("proxies are trusted either by count=... or by networks=[...]: give one of the two")
        if count is not None and (type(count) is not int or not 1 <= count <= _MAX_HOPS):
            raise InvalidUse(f"count is the number of proxies in front, from 1 to {_MAX_HOPS}, not {count!r}")
        self.count: Final = count
        self.networks: Final = tuple(networks)
        self.header: Final = header.lower()
        if not _NAME.fullmatch(self.header):
            raise InvalidUse(f"header is the name of one header, such as 'x-forwarded-for', not {header!r}")
        self._is_list = self.header in ("x-forwarded-for", "forwarded")
        if not self._is_list and count not in (None, 1):
            raise InvalidUse(
                f"{self.header} has one address, and says nothing of {count} proxies: trust networks=[...]"
            )
        self._trusts_unix = UNIX in self.networks
        masks = [_mask(network) for network in self.networks if network != UNIX]
        self._masks = tuple((version, bits) for version, bits in dict.fromkeys((mask[0], mask[1]) for mask in masks))
        self._trusted = frozenset(masks)
        self._trusts = functools.lru_cache(maxsize=1024)(self._looks_up)

    def __repr__(self) -> str:
        trusted = f"count={self.count}" if self.count is not None else f"networks={list(self.networks)}"
        return f"Proxies({trusted}, header={self.header!r})"

    def client(self, request: WebRequest) -> str | None:
        """The address of the client, in its one spelling; None where nobody who is trusted says one."""
        named = request.peer or UNIX
        peer = plain_address(named)
        if self.count is None and not (self._trusts_unix if named == UNIX else peer and self._trusts(peer)):
            return peer
        lines = request.values(self.header)
        if not lines:
            return peer
        if not self._is_list:
            return (plain_address(lines[0]) if len(lines) == 1 else None) or peer
        hops: Iterator[str | None] = elements(lines) if self.header == "forwarded" else entries(lines)
        return self._nth(hops, peer, self.count) if self.count is not None else self._first_untrusted(hops, peer)

    def _nth(self, hops: Iterator[str | None], peer: str | None, count: int) -> str | None:
        vouched = peer
        for number, hop in enumerate(hops, 1):
            address = plain_address(hop) if hop else None
            if number == count:
                return address or vouched
            if address is not None:
                vouched = address
            elif not _is_unix(hop):
                return vouched
        return peer

    def _first_untrusted(self, hops: Iterator[str | None], peer: str | None) -> str | None:
        vouched = peer
        for hop in hops:
            address = plain_address(hop) if hop else None
            if address is not None:
                if not self._trusts(address):
                    return address
                vouched = address
            elif not (self._trusts_unix and _is_unix(hop)):
                return vouched
        return vouched

    def _looks_up(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        number, version, length = int(parsed), parsed.version, parsed.max_prefixlen
        return any(
            of == version and (version, bits, number >> (length - bits)) in self._trusted for of, bits in self._masks
        )


def _is_unix(hop: str | None) -> bool:
    return hop is not None and hop.strip(" \t") == UNIX


def _mask(network: str) -> tuple[int, int, int]:
    """A network as its version, the length of its prefix, and its prefix."""
    try:
        found = ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise InvalidUse(f"a network is written as 10.0.0.0/8, 2001:db8::/32 or unix:, {error}") from None
    if found.prefixlen == 0:
        raise InvalidUse(f"{network} is everybody, who could then name whom he likes: name the proxies, or count them")
    number = int(found.network_address)
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is not None and found.prefixlen > 96:
        return 4, found.prefixlen - 96, int(mapped) >> (128 - found.prefixlen)
    return found.version, found.prefixlen, number >> (found.max_prefixlen - found.prefixlen)

"""Addresses as keys: one spelling for each, and the network that stands for all of a caller's.

Whatever is no address is None, so that nobody names himself by a text of his own. This module must not know requests.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_CHARS: Final = 96
"""The longest text that may be an address: with brackets, a port and the name of a zone."""
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](?::(?:[0-9]{1,5}|_[\w.-]+))?", re.ASCII)
_WITH_PORT: Final = re.compile(r"([0-9.]+):(?:[0-9]{1,5}|_[\w.-]+)", re.ASCII)
_NAT64: Final = 0x0064FF9B << 64
"""The upper 96 bits of the addresses that stand for those of IPv4 behind a translator (RFC 6052)."""
_OF_IPV4: Final = (bytes(8), bytes.fromhex("0064ff9b00000000"))
"""The upper 64 bits of addresses of IPv6 that may stand for one of IPv4."""


def plain_address(text: str) -> str | None:
    """The one spelling of an address: without port, brackets and zone, in lower case, with as few zeros as can be. One
    of IPv4 that is written as one of IPv6 is one of IPv4. None if it is no address.
    """
    return _plain_address(text) if len(text) <= MAX_CHARS else None


def network_of(text: str, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    """The network of an address, as a key names it: `203.0.113.7`, `2001:db8::/64`. None if it is no address."""
    if len(text) > MAX_CHARS:
        return None
    return _network_of_usual(text, ipv4_prefix, ipv6_prefix) or _network_of(text, ipv4_prefix, ipv6_prefix)


def parsed(text: str) -> Address | None:
    """An address from any of its spellings; None if it is none."""
    text = text.strip(" \t")
    found = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    try:
        if text.startswith("["):
            address: Address = ipaddress.IPv6Address(found[1] if found else "")
        else:
            address = ipaddress.ip_address(found[1] if found else text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    number = int(address)
    if number >> 32 == _NAT64:
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return ipaddress.IPv6Address(number)  # without its zone


@functools.lru_cache(maxsize=8192)
def _plain_address(text: str) -> str | None:
    address = parsed(text)
    return None if address is None else str(address)


def _network_of_usual(text: str, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    """The same for an address as servers spell it, a tenth of the time; None if it may be another spelling, or none."""
    try:
        if ":" not in text:
            return text if ipv4_prefix == 32 and inet_ntop(AF_INET, inet_pton(AF_INET, text)) == text else None
        upper = inet_pton(AF_INET6, text)[:8]
        if ipv6_prefix > 64 or upper in _OF_IPV4:
            return None
        if ipv6_prefix < 64:
            unmasked = 64 - ipv6_prefix
            upper = (int.from_bytes(upper) >> unmasked << unmasked).to_bytes(8)
        return f"{inet_ntop(AF_INET6, upper + bytes(8))}/{ipv6_prefix}"
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=8192)
def _network_of(text: str, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    address = parsed(text)
    if address is None:
        return None
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    unmasked = address.max_prefixlen - prefix
    if unmasked == 0:
        return str(address)
    return f"{type(address)(int(address) >> unmasked << unmasked)}/{prefix}"

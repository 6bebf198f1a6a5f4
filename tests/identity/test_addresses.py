"""Addresses as keys: the quick way for usual spellings, beside the one for all of them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.identity import addresses
from headgate.identity.addresses import network_of, parsed

V4 = st.ip_addresses(v=4).map(str)
V6 = st.one_of(
    st.ip_addresses(v=6),
    st.ip_addresses(v=6, network="::ffff:0:0/96"),
    st.ip_addresses(v=6, network="::/96"),
    st.ip_addresses(v=6, network="64:ff9b::/96"),
    st.ip_addresses(v=6, network="2001:db8:0:100::/56"),
)
SPELLINGS = st.one_of(
    V4,
    V6.map(str),
    V6.map(lambda address: address.exploded.upper()),
    st.builds("{}%{}".format, V6, st.text(max_size=5)),
    st.builds("[{}]:{}".format, V6, st.integers(0, 99_999)),
    st.builds("::ffff:{}".format, V4),
    st.builds("{}:{}".format, V4, st.integers(0, 99_999)),
)
LIKE_ADDRESSES = st.text("0123456789abcdefABCDEFx.:%[]/ \t\0\n-٣é\ud800", max_size=45)
MUTATED = st.builds(
    lambda text, at, put: text[: at % (len(text) + 1)] + put + text[at % (len(text) + 1) + 1 :],
    SPELLINGS,
    st.integers(0, 60),
    st.sampled_from(["", "0", "00", ".", ":", "::", "f", "256", " ", "\0", "%1", "/64", "x"]),
)


@given(st.one_of(SPELLINGS, MUTATED, LIKE_ADDRESSES), st.integers(0, 32), st.integers(0, 128))
@example("010.1.2.3", 32, 64)
@example("1.2.3", 32, 64)
@example("0x7f.1", 32, 64)
@example("::ffff:1.2.3.4", 32, 64)
@example("64:ff9b::1.2.3.4", 32, 64)
@example("1::00001", 32, 64)
@example("fe80::1%eth0", 32, 64)
def test_the_quick_way_names_the_network_that_the_other_way_does(text: str, ipv4_prefix: int, ipv6_prefix: int) -> None:
    quick = addresses._network_of_usual(text, ipv4_prefix, ipv6_prefix)
    address = parsed(text)
    if address is None:
        assert quick is None
        assert network_of(text, ipv4_prefix, ipv6_prefix) is None
        return
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    kind = ipaddress.IPv4Network if address.version == 4 else ipaddress.IPv6Network
    network = kind((int(address), prefix), strict=False)
    said = str(address) if prefix == address.max_prefixlen else str(network)
    assert network_of(text, ipv4_prefix, ipv6_prefix) == said
    assert quick in (None, said)


@pytest.mark.parametrize("text", ["203.0.113.7", "2001:db8::7", "2001:DB8:0:0:0:0:0:7", "fe80::1"])
def test_usual_spellings_take_the_quick_way(text: str) -> None:
    assert addresses._network_of_usual(text, 32, 64) == network_of(text, 32, 64) is not None

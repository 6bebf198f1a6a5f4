"""No header makes a caller another one: not one of a large corpus, and not whatever is put before honest proxies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.identity import Identity, Proxies
from headgate.web.core import run
from tests.identity.forged import CASES, LAYOUTS, REAL, TEXTS, XFF, Case
from tests.web.asking import Asked

CLIENTS = st.one_of(
    st.ip_addresses(v=4).map(str).filter(lambda text: not text.startswith("10.")),
    st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith(("fd", "::ffff:", "64:ff9b"))),
)
WRITTEN = st.one_of(st.sampled_from(TEXTS), st.text(alphabet='6.:[]",;=\\ \tfor_', max_size=30), st.text(max_size=30))


def key_of(layout: Proxies | None, peer: str | None, headers: dict[str, Any]) -> str:
    return run(Identity(proxies=layout).of(Asked(peer=peer, headers=headers)))


def key_of_peer(client: str) -> str:
    return key_of(None, client, {})


def forwarded_by(header: str, lines: list[str], sender: str, *, starts_line: bool) -> list[str]:
    """The lines of a header once an honest proxy has appended whom it got them from."""
    entry = sender
    if header == "forwarded":
        entry = f'for="[{sender}]:4711";proto=https' if ":" in sender else f"for={sender}"
    if starts_line or not lines:
        return [*lines, entry]
    return [*lines[:-1], f"{lines[-1]}, {entry}"]


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 150
    assert {case.layout for case in CASES} == set(LAYOUTS)
    assert not [case for case, times in Counter(map(repr, CASES)).items() if times > 1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.layout}-{ascii(case.peer)[:20]}")
def test_a_forged_header_names_nobody(case: Case) -> None:
    assert key_of(LAYOUTS[case.layout], case.peer, case.headers) == case.key


@pytest.mark.parametrize("starts_line", [False, True], ids=["same line", "new line"])
@pytest.mark.parametrize("header", [XFF, "forwarded"])
@pytest.mark.parametrize("client", [REAL, "2001:db8::1"])
def test_nothing_that_is_put_before_what_honest_proxies_append_changes_the_key(
    client: str, header: str, starts_line: bool
) -> None:
    layouts = {
        1: [Proxies(count=1, header=header), Proxies(networks=["10.0.0.0/8"], header=header)],
        3: [Proxies(count=3, header=header), Proxies(networks=["10.0.0.0/8"], header=header)],
    }
    for text in TEXTS:
        for count, trusted in layouts.items():
            lines = [text]
            for sender in [client, "10.0.0.3", "10.0.0.2"][:count]:
                lines = forwarded_by(header, lines, sender, starts_line=starts_line)
            for layout in trusted:
                assert key_of(layout, "10.0.0.1", {header: lines}) == key_of_peer(client), (layout, lines)


@given(
    client=CLIENTS,
    written=st.lists(WRITTEN, max_size=3),
    proxies=st.lists(
        st.integers(0, 2**24 - 1).map(lambda n: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"), min_size=1, max_size=4
    ),
    header=st.sampled_from([XFF, "forwarded"]),
    starts=st.lists(st.booleans(), min_size=4, max_size=4),
    is_counted=st.booleans(),
)
def test_behind_honest_proxies_the_key_is_that_of_whom_the_first_of_them_saw(
    client: str, written: list[str], proxies: list[str], header: str, starts: list[bool], is_counted: bool
) -> None:
    lines = written
    for sender, starts_line in zip([client, *proxies[:-1]], starts, strict=False):
        lines = forwarded_by(header, lines, sender, starts_line=starts_line)
    layout = (
        Proxies(count=len(proxies), header=header) if is_counted else Proxies(networks=["10.0.0.0/8"], header=header)
    )
    assert key_of(layout, proxies[-1], {header: lines}) == key_of_peer(client)


@given(peer=CLIENTS, written=st.lists(WRITTEN, max_size=3), header=st.sampled_from([XFF, "forwarded", "x-real-ip"]))
def test_who_is_no_trusted_proxy_is_not_heard(peer: str, written: list[str], header: str) -> None:
    layout = Proxies(networks=["10.0.0.0/8"], header=header)
    assert key_of(layout, peer, {header: written}) == key_of_peer(peer)


@given(written=st.lists(WRITTEN, max_size=3), name=st.sampled_from([XFF, "forwarded", "x-real-ip", "cf-connecting-ip"]))
def test_whatever_comes_a_key_is_that_of_an_address_or_unknown(written: list[str], name: str) -> None:
    found = key_of(Proxies(count=1, header=name), None, {name: written})
    assert found == "unknown" or found == key_of_peer(found.removeprefix("ip:").removesuffix("/64"))

"""TLS to a NATS server: whoever asks for it gets it, or an outage; no secret goes out in clear, whatever is between."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from nats.aio.client import Client as NatsClient

from headgate import AsyncLimiter, InvalidUse, Limiter, StoreUnavailable
from headgate.stores.nats import NatsStore
from tests.nats_servers import OwnNats, own_nats
from tests.proxy import Proxy, proxy_to
from tests.servers import eventually
from tests.stores.told import outages_of

SECRET = "S3CR"
PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""
GUARDED = f'authorization {{ user: lim, password: "{SECRET}" }}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def plain() -> Iterator[OwnNats]:
    """A server that does not speak TLS, and wants no password."""
    with own_nats() as server:
        yield server


def config(folder: Path, *lines: str, within: str = "") -> str:
    """Of a server that speaks TLS."""
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.pem"'
    return "\n".join([GUARDED, f"tls {{ {files} {within} }}", *lines])


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[OwnNats]:
    """A server that requires TLS."""
    with own_nats(config(folder)) as server:
        yield server


@pytest.fixture
def before_plain(plain: OwnNats) -> Iterator[Proxy]:
    with proxy_to(plain.port) as proxy:
        yield proxy


@pytest.fixture
def before_secure(secure: OwnNats) -> Iterator[Proxy]:
    with proxy_to(secure.port) as proxy:
        yield proxy


async def outages(url: str, **options: Any) -> list[str]:
    """What is said when it does not work."""
    return await outages_of(NatsStore(url, timeout=PATIENT, **options))


async def serves(url: str, **options: Any) -> None:
    """It is asked in each colour."""
    store = NatsStore(url, timeout=PATIENT, **options)
    try:
        assert Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
        assert await AsyncLimiter("5/day", store=store, on_outage="raise").try_acquire("k")
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("tls://lim:S3CR@127.0.0.1", {}),
        ("tls://S3CR@127.0.0.1", {}),
        ("tls://127.0.0.1", {"user": "lim", "password": SECRET}),
        ("tls://127.0.0.1", {"token": SECRET}),
        ("tls://lim:S3CR@127.0.0.1", {"tls_ca_certs": "ca.pem"}),
        ("tls://lim:S3CR@127.0.0.1", {"tls_handshake_first": True}),
        ("tls://lim:S3CR@127.0.0.1", {"tls": None}),
        ("nats://lim:S3CR@127.0.0.1", {"tls_ca_certs": "ca.pem"}),
        ("nats://lim:S3CR@127.0.0.1", {"tls_certfile": "server.pem"}),
        ("nats://lim:S3CR@127.0.0.1", {"tls": ssl.create_default_context()}),
        ("nats://lim:S3CR@127.0.0.1", {"tls_hostname": "localhost"}),
    ],
)
async def test_a_server_that_does_not_speak_tls_is_told_nothing_where_tls_was_asked_for(
    before_plain: Proxy, folder: Path, url: str, options: dict[str, Any]
) -> None:
    options = {name: str(folder / text) if str(text).endswith(".pem") else text for name, text in options.items()}
    for said in await outages(f"{url}:{before_plain.port}", **options):
        assert "it does not speak TLS" in said
        assert "write nats:// in the URL" in said
        assert SECRET not in said
    assert SECRET.encode() not in before_plain.heard
    assert b"CONNECT" not in before_plain.heard


async def test_in_the_query_of_a_url_the_files_ask_for_tls_too(before_plain: Proxy, folder: Path) -> None:
    url = f"nats://127.0.0.1:{before_plain.port}?user=lim&password={SECRET}&tls_ca_certs={folder}/ca.pem"
    for said in await outages(url):
        assert "it does not speak TLS" in said
    assert not before_plain.heard


async def test_whoever_strips_tls_from_the_first_words_of_a_server_learns_nothing(
    before_secure: Proxy, folder: Path
) -> None:
    before_secure.change = lambda data: re.sub(rb'"tls_(required|available|verify)":true,', b"", data)
    url = f"lim:{SECRET}@127.0.0.1:{before_secure.port}"
    for scheme in ("tls", "nats"):
        for said in await outages(f"{scheme}://{url}", tls_ca_certs=str(folder / "ca.pem")):
            assert "it does not speak TLS" in said
    assert not before_secure.heard


async def test_whoever_adds_tls_to_the_first_words_of_a_server_learns_nothing(
    before_plain: Proxy, folder: Path
) -> None:
    before_plain.change = lambda data: data.replace(b"INFO {", b'INFO {"tls_required":true,')
    for said in await outages(f"tls://lim:{SECRET}@127.0.0.1:{before_plain.port}", tls_ca_certs=f"{folder}/ca.pem"):
        assert "TLS" in said
    assert before_plain.heard
    assert SECRET.encode() not in before_plain.heard


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_server_that_requires_tls_is_asked_over_it(before_secure: Proxy, folder: Path, scheme: str) -> None:
    url = f"{scheme}://lim:{SECRET}@127.0.0.1:{before_secure.port}"
    await serves(url, tls_ca_certs=str(folder / "ca.pem"))
    assert before_secure.heard
    assert b"CONNECT" not in before_secure.heard


async def test_a_server_that_only_offers_tls_is_asked_over_it_where_it_was_asked_for(folder: Path) -> None:
    with own_nats(config(folder, "allow_non_tls: true")) as server, proxy_to(server.port) as proxy:
        url = f"lim:{SECRET}@127.0.0.1:{proxy.port}"
        await serves(f"tls://{url}", tls_ca_certs=str(folder / "ca.pem"))
        assert proxy.heard
        assert b"CONNECT" not in proxy.heard
        await serves(f"nats://{url}")  # nobody asked for it
        assert SECRET.encode() in proxy.heard


async def test_a_server_that_shakes_hands_first_is_asked_over_tls(folder: Path) -> None:
    with own_nats(config(folder, within=", handshake_first: auto")) as server, proxy_to(server.port) as proxy:
        url = f"tls://lim:{SECRET}@127.0.0.1:{proxy.port}"
        await serves(url, tls_ca_certs=str(folder / "ca.pem"), tls_handshake_first=True)
        assert proxy.heard
        assert b"CONNECT" not in proxy.heard


async def test_a_connection_over_tls_ends_without_a_warning(
    secure: OwnNats, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with proxy_to(secure.port) as proxy:
        url = f"tls://lim:{SECRET}@127.0.0.1:{proxy.port}"
        store = NatsStore(url, timeout=PATIENT, tls_ca_certs=str(folder / "ca.pem"))
        assert await AsyncLimiter("5/day", store=store, on_outage="raise").try_acquire("k")
        before = secure.connections()
        await store.aclose()
        eventually(lambda: secure.connections() < before, "the connection has ended")
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def ask_on(limiter: AsyncLimiter) -> None:
    while True:
        await limiter.try_acquire("k")


async def test_a_server_over_tls_that_hangs_up_leaves_no_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_nats(config(folder)) as server:
        url = f"tls://lim:{SECRET}@127.0.0.1:{server.port}"
        store = NatsStore(url, timeout=PATIENT, tls_ca_certs=str(folder / "ca.pem"))
        limiter = AsyncLimiter("5/day", store=store, on_outage="raise")
        assert await limiter.try_acquire("k")
        server.send(signal.SIGTERM)
        with pytest.raises(StoreUnavailable):
            await ask_on(limiter)
        await store.aclose()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("name", ["_process_info", "_connect_command"])
def test_where_nats_py_has_other_names_inside_tls_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(NatsClient, name)
    with pytest.raises(InvalidUse, match="would not be kept from speaking plainly"):
        NatsStore("tls://localhost")
    NatsStore("nats://localhost").close()

"""TLS to a server that speaks it itself, Debian's Redis 7: which certificates are accepted, and what is said of those
that are not; on one server, on a cluster, and by Sentinel.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import trustme

from headgate import AsyncLimiter, Limiter, StoreTimeout
from headgate.stores.redis import RedisStore
from headgate.stores.remote.tls import Names, problem_of
from tests.clusters import own_cluster
from tests.parts import program
from tests.sentinels import SERVICE, own_sentinels
from tests.servers import OwnValkey, free_port, own_valkey
from tests.stores.told import outages_of

NAMES = Names("ssl_", "redis", "rediss")
PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""
LONG_AGO = dt.datetime(2019, 1, 1)  # noqa: DTZ001  # trustme takes it without a time zone
SINCE = dt.datetime(2020, 1, 1)  # noqa: DTZ001  # likewise


class Certificates:
    """Two authorities, and what they have signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ours, others = trustme.CA(), trustme.CA()
        ours.cert_pem.write_to_path(str(folder / "ca.pem"))
        others.cert_pem.write_to_path(str(folder / "other.pem"))
        self._issue("server", ours, "localhost", "127.0.0.1")
        self._issue("named", ours, "localhost")
        self._issue("elsewhere", ours, "elsewhere.example")
        self._issue("expired", ours, "localhost", "127.0.0.1", not_before=LONG_AGO, not_after=SINCE)
        self._issue("client", ours, "client.example")
        self._issue("stranger", others, "client.example")

    def _issue(self, name: str, authority: trustme.CA, *hosts: str, **options: Any) -> None:
        issued = authority.issue_cert(*hosts, **options)
        issued.private_key_pem.write_to_path(self.path(f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(self.path(f"{name}.pem"))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, name: str = "server", *, wants_ours: bool = True) -> dict[str, Any]:
        """What a server is configured with, but for its port."""
        return {
            "tls-cert-file": self.path(f"{name}.pem"),
            "tls-key-file": self.path(f"{name}.key"),
            "tls-ca-cert-file": self.path("ca.pem"),
            "tls-auth-clients": "yes" if wants_ours else "no",
        }

    def client(self, name: str | None = "client", authority: str | None = "ca") -> dict[str, Any]:
        """The options of a client that shows this certificate, and trusts this authority."""
        options = {} if authority is None else {"ssl_ca_certs": self.path(f"{authority}.pem")}
        if name is not None:
            options |= {"ssl_certfile": self.path(f"{name}.pem"), "ssl_keyfile": self.path(f"{name}.key")}
        return options


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls_server(certificates: Certificates, name: str = "server", *, wants_ours: bool = True) -> Any:
    config = {"tls-port": free_port(), **certificates.server(name, wants_ours=wants_ours)}
    return own_valkey(program=program("redis-server"), **config)


@pytest.fixture(scope="module")
def strict(certificates: Certificates) -> Iterator[OwnValkey]:
    """A server that wants a certificate of ours."""
    with tls_server(certificates) as server:
        yield server


async def shares(url: str, **options: Any) -> list[int]:
    """What remains of five after one call in each colour."""
    store = RedisStore(url, timeout=PATIENT, **options)
    try:
        first = Limiter("5/day", store=store, name="n", on_outage="raise").try_acquire("k")
        return [
            first.remaining,
            (await AsyncLimiter("5/day", store=store, name="n", on_outage="raise").try_acquire("k")).remaining,
        ]
    finally:
        await store.aclose()


async def problems(url: str, **options: Any) -> list[str]:
    """What is said when it does not work."""
    return await outages_of(RedisStore(url, timeout=PATIENT, **options))


def url_of(server: OwnValkey) -> str:
    return f"rediss://localhost:{server.tls_port}/0"


async def test_a_certificate_of_ours_is_shown_and_that_of_the_server_checked(
    strict: OwnValkey, certificates: Certificates
) -> None:
    assert await shares(url_of(strict), prefix="options", **certificates.client()) == [4, 3]
    query = "&".join(f"{name}={value}" for name, value in certificates.client().items())
    assert await shares(f"{url_of(strict)}?{query}", prefix="query") == [4, 3]


async def test_a_client_of_the_users_own_brings_its_certificates(strict: OwnValkey, certificates: Certificates) -> None:
    told: dict[str, Any] = {"host": "localhost", "port": strict.tls_port, "ssl": True, **certificates.client()}
    with redis.Redis(**told) as client:
        store = RedisStore(client=client, prefix="theirs", timeout=PATIENT)
        assert Limiter("5/day", store=store, name="n", on_outage="raise").try_acquire("k").remaining == 4
        store.close()
    async with redis.asyncio.Redis(**told) as awaited:
        store = RedisStore(client=awaited, prefix="theirs", timeout=PATIENT)
        limiter = AsyncLimiter("5/day", store=store, name="n", on_outage="raise")
        assert (await limiter.try_acquire("k")).remaining == 3
        await store.aclose()


async def test_a_certificate_is_checked_for_the_name_in_the_url(certificates: Certificates) -> None:
    """Not for the address that was found for it."""
    with tls_server(certificates, "named", wants_ours=False) as server:
        assert await shares(url_of(server), prefix="named", **certificates.client(None)) == [4, 3]
        for said in await problems(url_of(server).replace("localhost", "127.0.0.1"), **certificates.client(None)):
            assert "its certificate is for another host: check the host in the URL" in said


@pytest.mark.parametrize("authority", ["other", None])
async def test_a_server_that_our_authority_did_not_sign_for_is_refused(
    strict: OwnValkey, certificates: Certificates, authority: str | None
) -> None:
    for said in await problems(url_of(strict), **certificates.client(authority=authority)):
        assert "its certificate is not trusted: check that ssl_ca_certs names the authority that signed it" in said


@pytest.mark.parametrize("name", [None, "stranger", "expired"])
async def test_a_client_whose_certificate_is_missing_unknown_or_expired_is_told_so(
    strict: OwnValkey, certificates: Certificates, name: str | None
) -> None:
    for said in await problems(url_of(strict), **certificates.client(name)):
        assert "refuses our certificate: check" in said or "ended the TLS connection: check" in said
        assert "check ssl_certfile and ssl_keyfile: the server may want a certificate of ours" in said


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("expired", "its certificate is not valid at this time: renew it, or check this machine's clock"),
        ("elsewhere", "its certificate is for another host: check the host in the URL"),
    ],
)
async def test_a_server_whose_certificate_is_expired_or_for_another_host_is_refused(
    certificates: Certificates, name: str, problem: str
) -> None:
    with tls_server(certificates, name, wants_ours=False) as server:
        for said in await problems(url_of(server), **certificates.client(None)):
            assert problem in said


async def test_files_that_are_not_there_or_do_not_belong_together_are_named(
    strict: OwnValkey, certificates: Certificates
) -> None:
    url, gone = url_of(strict), certificates.path("gone.pem")
    for said in await problems(url, **{**certificates.client(), "ssl_ca_certs": gone}):
        assert f"there is no such file: ssl_ca_certs='{gone}'" in said
    for said in await problems(url, **{**certificates.client(), "ssl_keyfile": certificates.path("server.key")}):
        assert "ssl_keyfile is not the key of ssl_certfile" in said


async def test_who_speaks_plainly_to_a_server_that_speaks_tls_is_told_so(strict: OwnValkey) -> None:
    for said in await problems(f"redis://localhost:{strict.tls_port}"):
        assert "it hung up: check that it runs, and whether it speaks TLS, as rediss:// in the URL says" in said


def test_a_server_that_speaks_something_else_is_told_apart() -> None:
    said = "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"
    assert "it does not speak TLS: write redis://" in str(problem_of(said, NAMES, {}, is_secure=True))
    assert problem_of("Name or service not known", NAMES, {}, is_secure=True) is None


async def test_a_plain_server_that_waits_for_more_is_asked_whether_it_speaks_tls() -> None:
    with own_valkey() as server:
        store = RedisStore(server.url.replace("redis://", "rediss://"), timeout=0.5, breaker=False)
        with pytest.raises(StoreTimeout, match="is the server up and near, and does it speak TLS"):
            Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
        with pytest.raises(StoreTimeout, match="is the server up and near, and does it speak TLS"):
            await AsyncLimiter("5/day", store=store, on_outage="raise").try_acquire("k")
        await store.aclose()


async def test_a_cluster_is_asked_over_tls_node_by_node(certificates: Certificates) -> None:
    with own_cluster(program=program("redis-server"), **certificates.server()) as cluster:
        url = f"rediss+cluster://127.0.0.1:{cluster.primaries[0].tls_port}"
        store = RedisStore(url, timeout=PATIENT, **certificates.client())
        limiter = Limiter("5/day", store=store, name="n", on_outage="raise")
        awaited = AsyncLimiter("5/day", store=store, name="n", on_outage="raise")
        keys = [cluster.key_at(node) for node in cluster.primaries]
        assert [limiter.try_acquire(key).remaining for key in keys] == [4, 4, 4]
        assert [(await awaited.try_acquire(key)).remaining for key in keys] == [3, 3, 3]
        await store.aclose()
        for said in await problems(url, **certificates.client(None)):
            assert "check ssl_certfile and ssl_keyfile" in said
        for said in await problems(url, **certificates.client(authority="other")):
            assert "its certificate is not trusted" in said


async def test_sentinels_and_their_servers_are_asked_over_tls(certificates: Certificates) -> None:
    with own_sentinels(program=program("redis-server"), config=certificates.server()) as own:
        hosts = ",".join(f"localhost:{sentinel.tls_port}" for sentinel in own.sentinels)
        assert await shares(f"rediss+sentinel://{hosts}/{SERVICE}", **certificates.client()) == [4, 3]
        plain = f"rediss+sentinel://{own.hosts}/{SERVICE}?sentinel_ssl=no"  # which they speak here, too
        assert await shares(plain, **certificates.client()) == [2, 1]
        for said in await problems(f"rediss+sentinel://{hosts}/{SERVICE}", **certificates.client(authority="other")):
            assert "no sentinel answers" in said
            assert "its certificate is not trusted" in said

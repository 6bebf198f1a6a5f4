"""The NATS store: how it connects, with whose clients, from which threads, loops and processes; what it keeps, and for
how long.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import os
import pickle
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats
import pytest
import trustme
from nats.aio.client import Client as NatsClient

from headgate import AsyncLimiter, InvalidKey, InvalidUse, Limiter, ManualClock, StoreURLError, TokenBucket
from headgate.clock import monotonic_us
from headgate.errors import MissingExtra, StoreOutage, StoreTimeout, StoreUnavailable
from headgate.stores import Entry, Group, Hit, ScannableStore
from headgate.stores.nats import NatsStore, link
from headgate.stores.nats.server_clock import FIRST, ServerClock
from headgate.stores.registry import open_store
from headgate.testing import use_clock
from tests.nats_servers import OwnNats, make_bucket, own_nats, request
from tests.servers import eventually

PATIENT = 20.0
"""A deadline for tests that are not about deadlines."""
FORGETFUL: dict[str, Any] = {"timeout": PATIENT, "remember_denials": 0}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnNats]:
    with own_nats() as server:
        yield server


def subjects(server: OwnNats, bucket: str = "headgate") -> set[str]:
    """The entries of a bucket."""
    info = request(server.url, f"STREAM.INFO.KV_{bucket}", b'{"subjects_filter":">"}')
    return set(info["state"].get("subjects") or ())


def connections(server: OwnNats) -> int:
    """How many there are, but for the one that asks."""
    return server.connections()


# URLs and options


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("nats://localhost", "nats://localhost:4222/headgate"),
        ("NATS://localhost:4333/limits", "nats://localhost:4333/limits"),
        ("nats://one:4222,two,three:4444", "nats://one:4222,two:4222,three:4444/headgate"),
        ("nats://me:secret@one,two/limits", "nats://one:4222,two:4222/limits"),
        ("nats://secret@[::1]:4222", "nats://[::1]:4222/headgate"),
        ("tls://one?user=me&password=secret&replicas=3&bucket=limits&storage=memory", "tls://one:4222/limits"),
    ],
)
def test_servers_are_named_without_their_secrets(url: str, name: str) -> None:
    store = open_store(url)
    assert isinstance(store, NatsStore)
    assert isinstance(store, ScannableStore)
    assert store.name == name
    assert repr(store) == f"<NatsStore {name}>"


@pytest.mark.parametrize(
    "url",
    [
        "nats://me:secret@host/path/more",
        "nats://me:sec/ret@host",
        "nats://host?nonsense=secret",
        "nats://host?replicas=secret",
        "nats://me:secret@host:port",
        "nats://me:secret@",
        "nats://me:secret@host#x",
    ],
)
def test_a_url_that_is_not_understood_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(StoreURLError) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bucket": "a.b"}, "bucket is a name"),
        ({"bucket": ""}, "bucket is a name"),
        ({"replicas": 6}, "replicas is an integer from 1 to 5"),
        ({"replicas": True}, "replicas is an integer"),
        ({"storage": "tape"}, "storage is 'file' or 'memory'"),
        ({"nonsense": 1}, "does not take nonsense"),
        ({"allow_reconnect": True}, "does not take allow_reconnect"),
        ({"timeout": 0}, "timeout is a number"),
        ({"tls_ca_certs": "/nowhere.pem"}, "files of TLS are not usable"),
        ({"tls_ca_certs": "/nowhere.pem", "tls": ssl.create_default_context()}, "not both"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidUse, match=problem):
        NatsStore("nats://localhost", **options)


def test_an_unusable_prefix_is_refused() -> None:
    for prefix in ("", "a" * 129):
        with pytest.raises(InvalidKey):
            NatsStore("nats://localhost", prefix=prefix)


def test_a_client_is_given_by_its_name_and_goes_alone() -> None:
    with pytest.raises(InvalidUse, match=r"NatsStore\(client="):
        NatsStore(NatsClient())  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidUse, match="a client or a URL"):
        NatsStore("nats://localhost", client=NatsClient())
    with pytest.raises(InvalidUse, match=r"must be a nats\.NATS"):
        NatsStore(client="localhost")  # type: ignore[arg-type]  # the mistake


# Clients of theirs


async def test_a_client_of_theirs_is_used_and_never_closed(own: OwnNats, prefix: str) -> None:
    client = await nats.connect(own.url)
    store = NatsStore(client=client, prefix=prefix, **FORGETFUL)
    async with AsyncLimiter("2/minute", store=store, on_outage="raise") as limiter:
        assert [(await limiter.try_acquire("k")).allowed for _ in range(3)] == [True, True, False]
        tasks = [limiter.try_acquire(f"k{number}") for number in range(50)]
        assert all(await asyncio.gather(*tasks))
    await store.aclose()
    assert client.is_connected
    await client.close()
    with pytest.raises(StoreUnavailable, match="not connected"):
        await store.decide_async([Group((Hit(TokenBucket(1, per=60), "k", "n"),))])


async def test_a_client_of_theirs_serves_no_blocking_limiter_and_no_other_event_loop(own: OwnNats) -> None:
    client = await nats.connect(own.url)
    store = NatsStore(client=client, **FORGETFUL)
    group = Group((Hit(TokenBucket(1, per=60), "k", "n"),), 0, "peek")
    with pytest.raises(InvalidUse, match="AsyncLimiter only"):
        store.decide([group])
    assert await store.decide_async([group])

    async def elsewhere() -> None:
        await store.decide_async([group])

    with pytest.raises(InvalidUse, match="the event loop in which it was connected"):
        await asyncio.to_thread(asyncio.run, elsewhere())
    with pytest.raises(InvalidUse, match="cannot be pickled"):
        pickle.dumps(store)
    await store.aclose()
    await client.close()


# Threads, event loops, processes


def test_many_threads_and_event_loops_share_a_store(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("500/day", store=store, name="n", on_outage="raise")
    awaited = AsyncLimiter("500/day", store=store, name="n", on_outage="raise")

    def block(_: int) -> int:
        return sum(limiter.try_acquire("k").allowed for _ in range(50))

    def run_loop(_: int) -> int:
        async def ask() -> int:
            decisions = await asyncio.gather(*(awaited.try_acquire("k") for _ in range(50)))
            await store.aclose()
            return sum(decision.allowed for decision in decisions)

        return asyncio.run(ask())

    with ThreadPoolExecutor(12) as pool:
        blocked, looped = pool.map(block, range(6)), pool.map(run_loop, range(6))
        assert sum(blocked) + sum(looped) == 500
    store.close()
    eventually(lambda: connections(own) == 0, "all connections are closed")


def test_an_event_loop_and_all_threads_need_one_connection_each(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("1000000/day", store=store, on_outage="raise")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: limiter.try_acquire(f"k{number}"), range(200)))
    assert connections(own) == 1

    async def ask() -> int:
        awaited = AsyncLimiter("1000000/day", store=store, on_outage="raise")
        await asyncio.gather(*(awaited.try_acquire(f"k{number}") for number in range(200)))
        found = await asyncio.to_thread(connections, own)
        await store.aclose()
        return found

    assert asyncio.run(ask()) == 2
    assert limiter.try_acquire("k")  # it opens again what was closed
    store.close()
    eventually(lambda: connections(own) == 0, "all connections are closed")


def test_limiters_of_one_url_share_a_store_and_close_it_together(own: OwnNats, prefix: str) -> None:
    one, other = (Limiter("5/day", store=own.url, prefix=prefix, name="n", timeout=PATIENT) for _ in range(2))
    assert (one.try_acquire("k").remaining, other.try_acquire("k").remaining) == (4, 3)
    assert connections(own) == 1
    one.close()
    assert other.try_acquire("k").remaining == 2
    other.close()
    eventually(lambda: connections(own) == 0, "the connection is closed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_a_connection_of_its_own(own: OwnNats, prefix: str) -> None:
    limiter = Limiter("100/day", store=NatsStore(own.url, prefix=prefix, **FORGETFUL), name="n", on_outage="raise")
    assert limiter.try_acquire("k")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if [limiter.try_acquire("k").remaining for _ in range(3)] == [98, 97, 96] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limiter.try_acquire("k").remaining == 95
    limiter.close()


@pytest.mark.parametrize("gone", ["hand_over", "write_of", "both"])
def test_where_nats_py_has_other_names_inside_it_goes_the_public_way(
    own: OwnNats, prefix: str, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hand_over", "write_of"):
        if gone in (name, "both"):
            monkeypatch.setattr(link, name, lambda *_: None)
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter(["5/day", "fixed-window 9/hour"], store=store, name="n", on_outage="raise")
    assert [limiter.try_acquire("k").allowed for _ in range(6)] == [True] * 5 + [False]
    assert len(list(store.scan())) == 2

    async def ask() -> int:
        async with AsyncLimiter("100/day", store=store, name="a", on_outage="raise") as awaited:
            decisions = await asyncio.gather(*(awaited.try_acquire("k") for _ in range(150)))
        await store.aclose()
        return sum(decision.allowed for decision in decisions)

    assert asyncio.run(ask()) == 100
    store.close()


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)


def test_loops_that_ended_without_a_farewell_disturb_nobody(own: OwnNats, prefix: str) -> None:
    done = run_program(f"""
import asyncio, headgate
from headgate.stores.nats import NatsStore, link
store = NatsStore("{own.url}", prefix="{prefix}", timeout=20)
limiter = headgate.AsyncLimiter("100/day", store=store, on_outage="raise")
async def ask():
    return (await limiter.try_acquire("k")).source
print([asyncio.run(ask()) for _ in range(3)])
store.close()
""")
    assert (done.stdout, done.stderr) == ("['store', 'store', 'store']\n", "")


def test_a_process_that_ends_without_a_farewell_says_nothing(own: OwnNats, prefix: str) -> None:
    done = run_program(f"""
import headgate
limiter = headgate.Limiter("100/day", store="{own.url}", prefix="{prefix}", timeout=20, on_outage="raise")
print(limiter.try_acquire("k").source)
""")
    assert (done.stdout, done.stderr) == ("store\n", "")


def test_it_is_asked_as_the_interpreter_ends(own: OwnNats, prefix: str) -> None:
    done = run_program(f"""
import atexit, headgate
limiter = headgate.Limiter("100/day", store="{own.url}", prefix="{prefix}", timeout=5, on_outage="closed")
def ask():
    print(limiter.try_acquire("k").source)
atexit.register(ask)
ask()
""")
    first, last = done.stdout.split()
    assert first == "store"
    assert last in ("store", "fail_closed")


def test_a_store_is_pickled_and_copied_with_what_it_was_made_of(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, bucket="pickled", **FORGETFUL)
    limiter = Limiter("5/day", store=store, name="n", on_outage="raise")
    limiter.try_acquire("k")
    for other in (pickle.loads(pickle.dumps(store)), copy.copy(store)):
        assert Limiter("5/day", store=other, name="n", on_outage="raise").try_acquire("k")
        other.close()
    assert limiter.peek("k").remaining == 2
    store.close()


def test_a_signals_handler_may_ask_in_the_middle_of_a_call(own: OwnNats, prefix: str) -> None:
    limiter = Limiter(
        "fixed-window 1000000/day", store=NatsStore(own.url, prefix=prefix, **FORGETFUL), name="n", on_outage="raise"
    )
    asked: list[bool] = []

    def handle(*_: object) -> None:
        asked.append(limiter.try_acquire("k").allowed)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        mine = 0
        for number in range(300):
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + number * 0.000002)
            mine += limiter.try_acquire("k").allowed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert mine == 300
    assert asked
    assert all(asked)
    assert limiter.peek("k").remaining == 1_000_000 - mine - len(asked)
    limiter.close()


def test_whoever_is_interrupted_while_it_waits_gets_its_tokens_back(prefix: str) -> None:
    class Interruption(Exception):  # it is none
        pass

    def handle(*_: object) -> None:
        raise Interruption

    with own_nats() as server:
        limiter = Limiter(
            "fixed-window 9/day", store=NatsStore(server.url, prefix=prefix, **FORGETFUL), name="n", on_outage="raise"
        )
        assert limiter.try_acquire("k").remaining == 8
        before = signal.signal(signal.SIGALRM, handle)
        server.stop()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interruption):
                limiter.try_acquire("k")
        finally:
            signal.signal(signal.SIGALRM, before)
            server.go_on()
        eventually(lambda: limiter.peek("k").remaining == 8, "it is given back")
        assert limiter.try_acquire("k").remaining == 7
        limiter.close()


# Rights and certificates

RIGHTS = """
authorization {
  users = [
    { user: "maker", password: "s3cret" }
    { user: "limits", password: "s3cret", permissions: {
        publish: ["$JS.API.STREAM.INFO.KV_headgate", "$JS.API.DIRECT.GET.KV_headgate", "$KV.headgate.>"]
        subscribe: ["_INBOX.>"]
    } }
    { user: "nobody", password: "s3cret", permissions: { publish: ["x"], subscribe: ["_INBOX.>"] } }
    { user: "half", password: "s3cret", permissions: {
        publish: ["$JS.API.STREAM.INFO.KV_headgate", "$JS.API.DIRECT.GET.KV_headgate", "$KV.headgate.*.n=2Ea.>"]
        subscribe: ["_INBOX.>"]
    } }
    { user: "deaf", password: "s3cret", permissions: { publish: [">"], subscribe: ["x"] } }
    { user: "reader", password: "s3cret", permissions: {
        publish: ["$JS.API.STREAM.INFO.KV_headgate", "$JS.API.DIRECT.GET.KV_headgate"], subscribe: ["_INBOX.>"]
    } }
  ]
}
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[OwnNats]:
    with own_nats(RIGHTS) as server:
        yield server


def url_of(server: OwnNats, user: str, password: str = "s3cret") -> str:
    return server.url.replace("://", f"://{user}:{password}@")


def test_few_rights_will_do(guarded: OwnNats, prefix: str) -> None:
    maker = NatsStore(url_of(guarded, "maker"), prefix=prefix, **FORGETFUL)
    Limiter("5/day", store=maker, on_outage="raise").try_acquire("k")
    maker.close()
    store = NatsStore(url_of(guarded, "limits"), prefix=prefix, **FORGETFUL)
    limiter = Limiter({"a": "5/day", "b": "5/day"}, store=store, name="n", on_outage="raise")
    decision = limiter.try_acquire({"a": "k", "b": "k"})
    assert decision
    limiter.refund(decision)
    limiter.reset({"a": "k", "b": "k"})
    entries = [Entry("n", "tb", "k", "1 2 3", 4 * 10**15)]
    assert store.restore(entries) == 1
    assert [entry for entry in store.scan() if entry.text == "1 2 3"] == entries
    assert store.clear(name="n") == 1
    store.close()


@pytest.mark.parametrize("user", ["nobody", "reader", "deaf"])
def test_who_lacks_a_right_is_told_so_at_once(guarded: OwnNats, prefix: str, user: str) -> None:
    maker = NatsStore(url_of(guarded, "maker"), prefix=prefix, **FORGETFUL)
    Limiter("5/day", store=maker, on_outage="raise").try_acquire("k")
    maker.close()
    store = NatsStore(url_of(guarded, user), prefix=prefix, **FORGETFUL)
    limiter = Limiter("5/day", store=store, on_outage="raise")
    with pytest.raises(StoreUnavailable, match="no right") as raised:
        limiter.try_acquire("k")
    assert "s3cret" not in str(raised.value)
    store.close()


@pytest.mark.parametrize("tiers", [["a", "b"], ["b", "a"]])
def test_who_lacks_a_right_to_a_part_of_a_group_is_told_so(guarded: OwnNats, prefix: str, tiers: list[str]) -> None:
    maker = NatsStore(url_of(guarded, "maker"), prefix=prefix, **FORGETFUL)
    Limiter("5/day", store=maker, on_outage="raise").try_acquire("k")
    maker.close()
    store = NatsStore(url_of(guarded, "half"), prefix=prefix, **FORGETFUL)
    limiter = Limiter(dict.fromkeys(tiers, "5/day"), store=store, name="n", on_outage="raise")
    with pytest.raises(StoreUnavailable, match="no right"):
        limiter.try_acquire({"a": "k", "b": "k"})
    assert limiter.peek({"a": "k", "b": "k"}).remaining == 5
    store.close()


@pytest.mark.parametrize(("user", "password"), [("limits", "wr0ng"), ("unknown", "s3cret")])
def test_wrong_credentials_are_an_outage_that_says_so(guarded: OwnNats, user: str, password: str) -> None:
    store = NatsStore(url_of(guarded, user, password), timeout=2)
    with pytest.raises(StoreUnavailable, match="refuses our credentials") as raised:
        Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
    assert password not in str(raised.value)
    options: dict[str, Any] = {"user": user, "password": password}
    with pytest.raises(StoreUnavailable, match="refuses our credentials"):
        Limiter("5/day", store=NatsStore(guarded.url, timeout=2, **options), on_outage="raise").try_acquire("k")


SEED = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"
CREDENTIALS = f"""-----BEGIN NATS USER JWT-----
eyJ0.eyJh.x
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("credentials", None, "credentials is the path of a file, which cannot be read: No such file"),
        ("credentials", "", "does not hold a user's JWT and seed"),
        ("credentials", SEED, "does not hold a user's JWT and seed"),
        ("credentials", CREDENTIALS.partition("\n\n")[2], "does not hold a user's JWT and seed"),
        ("credentials", CREDENTIALS.partition("\n\n")[0], "does not hold a user's JWT and seed"),
        ("nkeys_seed", None, "nkeys_seed is the path of a file, which cannot be read: No such file"),
        ("nkeys_seed", CREDENTIALS, "nkeys_seed names does not hold the seed of a user"),
    ],
)
def test_files_of_credentials_that_cannot_be_used_are_refused(
    tmp_path: Path, option: str, text: str | None, problem: str
) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    options: dict[str, Any] = {option: str(path)}
    with pytest.raises(InvalidUse, match=problem):
        NatsStore("nats://127.0.0.1:1", **options)
    path.write_text(CREDENTIALS if option == "credentials" else SEED)
    store = NatsStore("nats://127.0.0.1:1", **options)
    path.write_text(text or "")  # it was good when the store was made
    with pytest.raises(StoreUnavailable, match="we cannot sign in"):
        Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
    store.close()


@pytest.mark.parametrize("option", ["credentials", "nkeys_seed", "nkeys_seed_str"])
def test_a_secret_in_the_wrong_place_is_not_shown(option: str) -> None:
    for secret in (CREDENTIALS, f"{SEED}x", f"x{SEED}" * 100):
        options: dict[str, Any] = {option: secret}
        with pytest.raises(InvalidUse) as raised:
            NatsStore("nats://127.0.0.1:1", **options)
        assert SEED not in "".join(traceback.format_exception(raised.value))


def test_what_signs_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(MissingExtra, match=r"nkeys is not installed: pip install 'headgate\[nats\]'"):
        NatsStore("nats://127.0.0.1:1", nkeys_seed_str=SEED)


def test_a_user_signs_in_with_a_seed(tmp_path: Path, prefix: str) -> None:
    nkeys = importlib.import_module("nkeys")
    seed = nkeys.encode_seed(b"32 bytes that are as good as any", nkeys.PREFIX_BYTE_USER)
    user = nkeys.from_seed(bytearray(seed)).public_key.decode()
    (tmp_path / "seed").write_bytes(seed)
    with own_nats(f'authorization {{ users = [ {{ nkey: "{user}" }} ] }}') as server:
        for options in ({"nkeys_seed": str(tmp_path / "seed")}, {"nkeys_seed_str": seed.decode()}):
            given: dict[str, Any] = options
            store = NatsStore(server.url, prefix=prefix, **given, **FORGETFUL)
            assert Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
            store.close()
        other = NatsStore(server.url, timeout=2, nkeys_seed_str=SEED)
        with pytest.raises(StoreUnavailable, match="refuses our credentials"):
            Limiter("5/day", store=other, on_outage="raise").try_acquire("k")
        other.close()


def test_tls_is_spoken_and_certificates_are_checked_on_both_sides(tmp_path: Path, prefix: str) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    for name, cert in (("server", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("me"))):
        cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    config = (
        f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.pem", '
        f'ca_file: "{tmp_path}/ca.pem", verify: true }}'
    )
    with own_nats(config) as server:
        url = server.url.replace("nats", "tls")
        ours: dict[str, Any] = {"tls_certfile": f"{tmp_path}/client.pem", "tls_keyfile": f"{tmp_path}/client.pem"}
        store = NatsStore(url, prefix=prefix, tls_ca_certs=f"{tmp_path}/ca.pem", **ours, **FORGETFUL)
        assert Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
        store.close()
        for options, problem in (
            ({"tls_ca_certs": f"{tmp_path}/stranger.pem", **ours}, "is not trusted: check that tls_ca_certs names"),
            (
                {"tls_ca_certs": f"{tmp_path}/ca.pem"},
                "(refuses our certificate|ended the TLS connection): check tls_certfile and tls_keyfile",
            ),
            ({}, "is not trusted: check that tls_ca_certs names"),
        ):
            store = NatsStore(url, timeout=2, **options)
            with pytest.raises(StoreUnavailable, match=problem):
                Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
            store.close()


# The bucket


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("mortal", {"allow_msg_ttl": False}, "allow_msg_ttl is off"),
        ("indirect", {"allow_direct": False}, "allow_direct is off"),
        ("history", {"max_msgs_per_subject": 5}, "history"),
        ("aging", {"max_age": 3_600_000_000_000}, "max_age"),
        ("dropping", {"discard": "old", "max_msgs": 100}, "drops old entries"),
        ("once", {"discard_new_per_subject": True}, "refuses to replace an entry"),
        ("interest", {"retention": "interest"}, "retention is not limits"),
        ("queue", {"retention": "workqueue"}, "retention is not limits"),
        ("silent", {"no_ack": True}, "no_ack"),
        ("renaming", {"subject_transform": {"src": "$KV.renaming.>", "dest": "x.>"}}, "subject_transform"),
        ("elsewhere", {"subjects": ["$KV.another.>", "x"]}, r"does not keep \$KV.elsewhere.> \(subjects"),
    ],
)
def test_a_bucket_that_would_not_do_is_refused(own: OwnNats, name: str, changes: dict[str, Any], problem: str) -> None:
    make_bucket(own.url, name, **changes)
    store = NatsStore(own.url, bucket=name, timeout=5)
    with pytest.raises(StoreUnavailable, match=problem) as raised:
        Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
    assert f"change the stream KV_{name}" in str(raised.value)
    store.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"allow_atomic": False},
        {"discard": "old"},
        {"max_bytes": 10_000_000},
        {"storage": "memory"},
        {"subjects": ["y", "$KV.fine-subjects.headgate.>"]},
        {"deny_purge": True},
    ],
)
def test_a_bucket_that_will_do_is_used_as_it_is(
    own: OwnNats, changes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = f"fine-{'-'.join(changes)}"
    make_bucket(own.url, name, **changes)
    store = NatsStore(own.url, bucket=name, **FORGETFUL)
    limiter = Limiter(["2/day", "5/week"], store=store, on_outage="raise")
    assert [limiter.try_acquire("k").allowed for _ in range(3)] == [True, True, False]
    store.close()


def test_a_bucket_that_is_changed_while_it_is_used_is_noticed(own: OwnNats) -> None:
    make_bucket(own.url, "changed", allow_atomic=False)
    store = NatsStore(own.url, bucket="changed", timeout=5, remember_denials=0)
    limiter = Limiter("500/day", store=store, on_outage="raise")
    assert limiter.try_acquire("k")
    config = request(own.url, "STREAM.INFO.KV_changed")["config"]
    config |= {"max_age": 3_600_000_000_000, "duplicate_window": 120_000_000_000}
    assert "error" not in request(own.url, "STREAM.UPDATE.KV_changed", json.dumps(config).encode())

    def is_refused() -> bool:
        try:
            limiter.try_acquire("k")
        except StoreUnavailable as outage:
            return "max_age" in str(outage)
        return False

    eventually(is_refused, "it is seen")  # with the server's clock
    config["max_age"] = 0
    assert "error" not in request(own.url, "STREAM.UPDATE.KV_changed", json.dumps(config).encode())
    eventually(lambda: not is_refused(), "it is seen")
    store.close()


@pytest.mark.parametrize("tiers", [["log"], ["log", "bucket"], ["bucket", "log"]])
def test_a_state_too_large_for_the_bucket_is_that_groups_outage_alone(own: OwnNats, tiers: list[str]) -> None:
    name = f"narrow-{'-'.join(tiers)}"
    make_bucket(own.url, name, max_msg_size=400)
    store = NatsStore(own.url, bucket=name, timeout=5, remember_denials=0)
    limits = {"log": "sliding-log 1000/day", "bucket": "1000/day"}
    limiter = Limiter({tier: limits[tier] for tier in tiers}, store=store, name="n", on_outage="raise")
    with pytest.raises(StoreUnavailable, match="max_msg_size") as raised:
        all(limiter.try_acquire(dict.fromkeys(tiers, "k")) for _ in range(100))
    assert not raised.value.is_of_server
    assert limiter.try_acquire(dict.fromkeys(tiers, "another"))
    store.close()


async def test_many_groups_of_several_limits_at_once_are_within_the_deadline(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, timeout=2)
    limiter = AsyncLimiter(["5/day", "50/week"], store=store, name="n", on_outage="raise")
    for _ in range(2):
        decisions = await asyncio.gather(*[limiter.try_acquire(f"k{number}") for number in range(1000)])
        assert all(decisions)
    await store.aclose()


def test_a_bucket_is_made_as_it_was_asked_for(own: OwnNats) -> None:
    store = NatsStore(f"{own.url}?storage=memory&bucket=made", **FORGETFUL)
    Limiter("2/day", store=store, on_outage="raise").peek("k")
    config = request(own.url, "STREAM.INFO.KV_made")["config"]
    told = ("storage", "num_replicas", "allow_msg_ttl", "allow_atomic", "allow_direct", "max_msgs_per_subject")
    assert [config[name] for name in told] == ["memory", 1, True, True, True, 1]
    store.close()


def test_processes_may_make_the_bucket_at_the_same_time(own: OwnNats) -> None:
    stores = [NatsStore(own.url, bucket="together", prefix=f"{number}", **FORGETFUL) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        limiters = [Limiter("2/day", store=store, on_outage="raise") for store in stores]
        assert all(pool.map(lambda limiter: limiter.try_acquire("k"), limiters))
    for store in stores:
        store.close()


def test_it_lives_beside_other_keys_of_its_bucket(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("2/day", store=store, name="n", on_outage="raise")

    async def write() -> None:
        client = await nats.connect(own.url)
        bucket = await client.jetstream().key_value("headgate")
        await bucket.put("theirs", b"something else")
        for number in range(600):  # more than are listed at a time
            await bucket.put(f"{prefix}.theirs-{number}", b"something else")
        await bucket.put(f"{prefix}.n.tb.foreign", b"something else")
        await client.close()

    limiter.peek("k")  # which makes the bucket
    asyncio.run(write())
    limiter.try_acquire("k")
    assert [entry.key for entry in store.scan()] == ["k"]
    with pytest.raises(StoreOutage, match="not ours") as raised:
        limiter.try_acquire("foreign")
    assert not raised.value.is_of_server
    assert limiter.try_acquire("k")
    assert store.clear() == 1
    store.close()


# Keys and lives


@pytest.mark.parametrize(
    "key", ["a.b", "a b", "*", ">", "a*.>", "$KV", "=", "==", "=2E", "é" * 512, "\t\r\n", "x" * 1024, "user:{42}%"]
)
def test_any_key_and_name_will_do(own: OwnNats, prefix: str, key: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("2/day", store=store, name=f"name {key}"[:200], on_outage="raise")
    first = limiter.try_acquire(key)
    assert first.remaining == 1
    assert limiter.peek(f"x{key}"[:500]).remaining == 2
    copied = pickle.loads(pickle.dumps(first))
    limiter.refund(copied)
    limiter.refund(first)
    assert limiter.try_acquire(key).remaining == 1
    assert {entry.key.partition("\0")[0] for entry in store.scan()} == {key}
    store.close()


def test_an_updated_entry_goes_after_its_life_and_not_before(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter(TokenBucket(4, per=4, burst=8), store=store, name="n", on_outage="raise")
    for _ in range(4):
        last = limiter.try_acquire("k")
    until_us = last.now_us + last.reset_after_us
    (subject,) = [one for one in subjects(own) if one.startswith(f"$KV.headgate.{prefix}.")]

    def now_us() -> int:
        return limiter.peek("another").now_us

    def is_there() -> bool:
        return subject in subjects(own)

    while is_there():
        assert now_us() < until_us + 10_000_000, "it stays for ever"
        time.sleep(0.05)
    assert now_us() >= until_us
    store.close()


def test_nothing_is_left_of_what_was_reset(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("5/day", store=store, name="n", on_outage="raise")
    for number in range(5):
        limiter.try_acquire(f"k{number}")
        limiter.reset(f"k{number}")
    begin = f"$KV.headgate.{prefix}."
    eventually(lambda: not [one for one in subjects(own) if one.startswith(begin)], "all markers are gone")
    assert limiter.try_acquire("k1").remaining == 4
    store.close()


# The protocol for operators


def test_what_is_kept_is_listed_cleared_and_restored(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    for name in ("one", "two"):
        limiter = Limiter("5/day", store=store, name=name, on_outage="raise")
        for number in range(300):
            limiter.try_acquire(f"user:{number}")
    entries = list(store.scan())
    assert len(entries) == len({entry[:3] for entry in entries}) == 600
    assert {entry.key for entry in store.scan(name="two", key_prefix="user:29")} == {
        f"user:{number}" for number in [29, *range(290, 300)]
    }
    assert store.clear(name="one") == 300
    assert Limiter("5/day", store=store, name="one", on_outage="raise").peek("user:1").remaining == 5
    assert Limiter("5/day", store=store, name="two", on_outage="raise").peek("user:1").remaining == 4
    assert store.restore(entries) == 300
    assert sorted(store.scan()) == sorted(entries)
    assert Limiter("5/day", store=store, name="one", on_outage="raise").peek("user:1").remaining == 4
    assert store.clear() == 600
    assert list(store.scan()) == []
    store.close()


def test_what_is_cleared_elsewhere_is_seen_though_it_is_remembered(own: OwnNats, prefix: str) -> None:
    store, other = (NatsStore(own.url, prefix=prefix, **FORGETFUL) for _ in range(2))
    limiter = Limiter("2/day", store=store, name="n", on_outage="raise")
    assert [limiter.try_acquire("k").allowed for _ in range(3)] == [True, True, False]
    assert other.clear() == 1
    assert limiter.try_acquire("k").remaining == 1
    store.close()
    other.close()


def test_a_listing_ends_though_all_is_written_meanwhile(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("100000/day", store=store, name="n", on_outage="raise")
    for number in range(400):
        limiter.try_acquire(f"k{number}")
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            for number in range(200):
                limiter.try_acquire(f"k{number}")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        listed = [entry.key for entry in store.scan()]
    finally:
        ends.set()
        writing.join()
    assert len(listed) == len(set(listed))
    assert {f"k{number}" for number in range(200, 400)} <= set(listed)
    store.close()


# The clock


def test_the_servers_clock_counts_and_not_ours(own: OwnNats, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("5/day", store=store, on_outage="raise")
    true_us = time.time_ns() // 1_000
    wrong_ns = time.time_ns() + 3_600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: wrong_ns)
    assert abs(limiter.try_acquire("k").now_us - true_us) < 5_000_000
    store.close()


def test_time_does_not_run_backwards(own: OwnNats, prefix: str) -> None:
    store = NatsStore(own.url, prefix=prefix, **FORGETFUL)
    limiter = Limiter("1000000/day", store=store, on_outage="raise")
    instants = [limiter.try_acquire("k").now_us for _ in range(500)]
    assert instants == sorted(instants)
    store.close()


def test_an_estimate_is_within_what_was_said() -> None:
    clock = ServerClock()
    clock.learn(1_000_000, 100, 300)
    assert clock.now_us(300) in range(1_000_000, 1_000_201)
    assert clock.margin_us() == 200
    clock.learn(1_010_050, 10_100, 10_110)  # quicker
    assert clock.margin_us() <= 12
    assert 1_010_050 - 2 <= clock.now_us(10_110) <= 1_010_060 + 2


def test_an_estimate_changes_no_more_than_what_is_learnt_makes_it() -> None:
    clock = ServerClock()
    clock.learn(1_000_000, 0, 100)
    before = clock.now_us(0)
    clock.learn(1_000_900, 900, 1_100)  # it fits
    assert clock.now_us(0) == before


@pytest.mark.parametrize("jump_us", [-3_600_000_000, 3_600_000_000])
def test_an_estimate_follows_where_the_clock_was_set(jump_us: int) -> None:
    clock = ServerClock()
    clock.learn(10**10, 0, 100)
    clock.learn(10**10 + jump_us + 1_000, 1_000, 1_100)
    assert abs(clock.now_us(1_100) - (10**10 + jump_us + 1_100)) <= 100


def test_the_clock_is_asked_for_often_at_first() -> None:
    clock = ServerClock()
    at_us = 0
    for _ in range(FIRST):
        clock.learn(10**9 + at_us, at_us, at_us)
        assert not clock.is_due(at_us + 10_000)
        assert clock.is_due(at_us + 100_000) or clock.is_due(at_us + 10_000_000)
        at_us += 100_000
    assert not clock.is_due(at_us)
    assert clock.is_due(at_us + 10_000_000)
    assert monotonic_us() > 0


async def test_a_test_may_put_it_on_a_clock_of_its_own(own: OwnNats, prefix: str) -> None:
    clock = ManualClock()
    store = use_clock(NatsStore(own.url, prefix=prefix, **FORGETFUL), clock)
    async with AsyncLimiter("1/second", store=store, on_outage="raise") as limiter:
        assert await limiter.try_acquire("k")
        assert not await limiter.try_acquire("k")
        clock.advance(seconds=1)
        assert await limiter.try_acquire("k")
    await store.aclose()
    with pytest.raises(InvalidUse, match="clock of a test"):
        pickle.dumps(store)


# Where there is no server


async def test_nobody_there_is_an_outage(prefix: str) -> None:
    store = NatsStore("nats://127.0.0.1:1,127.0.0.1:2", prefix=prefix, timeout=2)
    async with AsyncLimiter("5/day", store=store, on_outage="raise") as limiter:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await limiter.try_acquire("k")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
    await store.aclose()
    store.close()


def test_the_first_server_that_answers_is_taken(own: OwnNats, prefix: str) -> None:
    store = NatsStore(f"nats://127.0.0.1:1,127.0.0.1:{own.port}", prefix=prefix, **FORGETFUL)
    assert Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
    store.close()


def test_a_server_that_says_nothing_is_a_timeout(prefix: str) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = NatsStore(f"nats://127.0.0.1:{silent.getsockname()[1]}", prefix=prefix, timeout=0.1)
        with pytest.raises(StoreTimeout):
            Limiter("5/day", store=store, on_outage="raise").try_acquire("k")
        store.close()

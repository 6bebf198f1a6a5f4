"""Passwords in store URLs, whatever their characters, escaped or not: the password is understood as it is meant, or the
URL is refused when the store is made; and no text shows any part of it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import Limiter, StoreURLError
from headgate.cli import main
from headgate.stores.nats import NatsStore
from headgate.stores.postgres import PostgresStore
from headgate.stores.redis import RedisStore
from headgate.stores.registry import open_store
from headgate.stores.remote import RemoteStore
from tests.nats_servers import own_nats

MARKS = ("S3CR", "48151")
"""What the passwords are made of, between signs: a word, and what may be the number of a port or a database."""
SIGNS = "/?#@:%,&= +[]\\;!$^'\"\N{LATIN SMALL LETTER E WITH ACUTE}\N{ACCOUNT OF}\N{GREEK SMALL LETTER OMEGA}"

SHAPES = {
    "redis": "redis://app:{}@127.0.0.1:1/0",
    "redis without a user": "rediss://:{}@127.0.0.1:1/0",
    "valkey": "valkey://app:{}@127.0.0.1:1",
    "redis with an option": "redis://app:{}@127.0.0.1:1/0?client_name=x",
    "redis option": "redis://127.0.0.1:1/0?username=app&password={}",
    "cluster": "redis+cluster://app:{}@127.0.0.1:1,127.0.0.1:2",
    "sentinel": "redis+sentinel://app:{}@127.0.0.1:1,127.0.0.1:2/service/0",
    "sentinel option": "redis+sentinel://127.0.0.1:1/service?sentinel_password={}",
    "unix": "unix://app:{}@/nowhere/redis.sock?db=0",
    "unix without a database": "unix://app:{}@/nowhere/redis.sock",
    "postgresql": "postgresql://app:{}@127.0.0.1:1/base",
    "postgres": "postgres://app:{}@127.0.0.1:1?connect_timeout=2",
    "postgres hosts": "postgres://app:{}@127.0.0.1:1,127.0.0.1:2/base",
    "postgres option": "postgresql://127.0.0.1:1/base?user=app&password={}",
    "nats": "nats://app:{}@127.0.0.1:1",
    "nats token": "nats://{}@127.0.0.1:1,127.0.0.1:2/bucket",
    "nats option": "nats://127.0.0.1:1?user=app&password={}",
    "tls": "tls://app:{}@127.0.0.1:1/bucket?replicas=1",
}
OPTIONS: dict[str, dict[str, Any]] = {"tls": {"tls": ssl.create_default_context()}}
"""Reading the certificates of the system takes long."""
pieces = st.one_of(st.sampled_from(MARKS), st.text(SIGNS, min_size=1, max_size=2))
passwords = st.lists(pieces, min_size=2, max_size=6).map("".join).filter(lambda text: any(m in text for m in MARKS))
EACH_SIGN = [text for sign in SIGNS for text in (f"48151{sign}S3CR", f"S3CR{sign}48151", f"{sign}S3CR", f"S3CR{sign}")]


@pytest.fixture(scope="module")
def said() -> Iterator[list[str]]:
    """What is logged."""
    lines: list[str] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Noting()
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def check_hidden(text: str) -> None:
    for mark in MARKS:
        assert mark.lower() not in text.lower(), text


def chain(error: BaseException) -> Iterator[str]:
    """What a traceback shows."""
    shown: BaseException | None = error
    while shown is not None:
        yield f"{shown} {shown!r}"
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


def passwords_of(store: Any) -> list[str]:
    """The passwords that it would log in with."""
    if isinstance(store, RedisStore):
        openers = [store._connector._blocking, store._connector._awaited]
        found = [opener.keywords.get("password") for opener in openers if opener is not None]
        if not any(found):
            servers: Any = store._servers
            found = [asks.connector._blocking.keywords.get("password") for asks in servers._advisers.values()]
        return [str(password) for password in found]
    if isinstance(store, PostgresStore):
        return [str(store._server._parameters["password"])]
    assert isinstance(store, NatsStore)
    options = store._server._connector._options
    return [str(options.get("password") or options.get("token") or options["user"])]


def check(shape: str, written: str, meant: set[str], *, is_understood: bool = False) -> None:
    url = SHAPES[shape].format(written)
    try:
        store = open_store(url, **OPTIONS.get(shape, {}))
    except StoreURLError as error:
        if is_understood:
            raise
        for text in chain(error):
            check_hidden(text)
        return
    assert isinstance(store, RemoteStore)
    check_hidden(f"{store!r} {store.name}")
    assert {*passwords_of(store)} <= meant, url
    store.close()


def meanings(shape: str, password: str) -> set[str]:
    """What a password that is written as it is may be taken for."""
    texts = {password, password.rstrip()}
    if shape == "nats token" and ":" in password:  # a user and a password
        texts |= {password.partition(":")[0], password.partition(":")[2]}
    return {meant for text in texts for meant in (text, unquote(text), unquote(text.replace("+", " ")))}


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40, deadline=None)
@given(password=passwords)
def test_an_escaped_password_is_understood_and_never_shown(shape: str, password: str) -> None:
    check(shape, quote(password, safe=""), {password}, is_understood=True)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=80, deadline=None)
@given(password=passwords)
def test_a_password_as_it_is_is_understood_or_refused_and_never_shown(shape: str, password: str) -> None:
    check(shape, password, meanings(shape, password))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_sign_at_each_place(shape: str) -> None:
    for password in EACH_SIGN:
        check(shape, password, meanings(shape, password))
        check(shape, quote(password, safe=""), {password}, is_understood=True)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=8, deadline=None)
@given(password=passwords, is_escaped=st.booleans())
def test_nothing_that_a_limiter_says_or_logs_in_an_outage_shows_it(
    shape: str, said: list[str], password: str, is_escaped: bool
) -> None:
    said.clear()
    url = SHAPES[shape].format(quote(password, safe="") if is_escaped else password)
    try:
        with Limiter("5/day", store=url, on_outage="closed", timeout=0.5) as limiter:
            check_hidden(repr(limiter))
            check_hidden(repr(limiter.try_acquire("k")))
            assert said
    except StoreURLError as error:
        for text in chain(error):
            check_hidden(text)
    for line in said:
        check_hidden(line)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "password",
    ["S3CR/48151", "48151/S3CR", "x@S3CR", "S3CR?x", "48151#S3CR", "S3CR%2F48151"],
    ids=["slash", "number", "at", "question", "hash", "escaped"],  # which are in the name of a folder
)
def test_no_command_shows_it(shape: str, password: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = SHAPES[shape].format(password)
    file = tmp_path / "headgate.toml"
    file.write_text(f"[stores.default]\nurl = '{url}'\n[limiters.a]\nlimit = '5/day'\n", "utf-8")
    for words in (
        ["doctor", "--store", url],
        ["check", "k", "--limit", "5/day", "--store", url],
        ["config", "check", str(file)],
        ["config", "check", "--json", str(file)],
    ):
        with suppress(SystemExit):
            main(words)
        printed = capsys.readouterr()
        assert printed.out or printed.err
        check_hidden(printed.out + printed.err)


@pytest.mark.parametrize("url", ["app:S3CR://x@127.0.0.1", "S3CR", "redis:S3CR@127.0.0.1", "redis//:S3CR@127.0.0.1"])
def test_what_is_no_url_is_not_shown(url: str) -> None:
    for make in (open_store, RedisStore, PostgresStore, NatsStore):
        with pytest.raises(StoreURLError) as caught:
            make(url)
        for text in chain(caught.value):
            check_hidden(text)


def test_what_a_pool_is_made_from_is_not_shown() -> None:
    from psycopg_pool import ConnectionPool

    for conninfo in (
        "postgresql://app:48151/S3CR@127.0.0.1/base",
        "postgresql://app:x@S3CR@127.0.0.1/base",
        "host=127.0.0.1 password=S3CR user",
    ):
        store = PostgresStore(pool=ConnectionPool(conninfo, open=False))
        check_hidden(f"{store!r} {store.name}")
        store.close()


@pytest.mark.parametrize("password", ["a/b", "a@b:c", "50%41,x?#&= ", "\N{GREEK SMALL LETTER OMEGA}"])
def test_an_escaped_password_is_that_which_nats_is_told(password: str) -> None:
    with own_nats(f'authorization {{ user: "a p", password: "{password}" }}') as server:
        for url in (
            f"nats://a%20p:{quote(password, safe='')}@127.0.0.1:{server.port}",
            f"nats://127.0.0.1:{server.port}?user=a%20p&password={quote(password, safe='')}",
        ):
            with Limiter("5/day", store=url, on_outage="raise", timeout=10) as limiter:
                assert limiter.try_acquire("k")


def test_an_escaped_token_is_that_which_nats_is_told() -> None:
    with own_nats('authorization { token: "a/b@c" }') as server:
        url = f"nats://a%2Fb%40c@127.0.0.1:{server.port}"
        with Limiter("5/day", store=url, on_outage="raise", timeout=10) as limiter:
            assert limiter.try_acquire("k")

"""The NATS store: the state lies in a key-value bucket of JetStream, and is judged here. nats-server 2.11 or later;
2.12 for groups of several keys in one step.

This module must not know how a batch is answered.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

try:
    from nats.aio.client import Client as NatsClient
except ModuleNotFoundError as error:  # pragma: no cover - the suite always has it
    from headgate.errors import MissingExtra

    raise MissingExtra("nats-py", "nats") from error

from headgate.breaker import DEFAULT, Breaker
from headgate.errors import InvalidKey, InvalidUse
from headgate.keys import check_prefix
from headgate.plans.merging import pages
from headgate.plans.nats import Place, Restored
from headgate.stores.contract import Entry
from headgate.stores.nats.address import read_login, read_url
from headgate.stores.nats.bucket import Bucket, Storage
from headgate.stores.nats.connector import ClientConnector, Connector
from headgate.stores.nats.requests import PER_PAGE
from headgate.stores.nats.server import Server
from headgate.stores.nats.session import Session
from headgate.stores.remote import RemoteStore, Terms


class NatsStore(RemoteStore):
    """State in a key-value bucket of NATS JetStream, shared by everyone who asks for the same bucket with the same
    prefix.

    :param url: `nats://[user:password@]host[:port][,host:port...][/bucket]`, or `tls://...`. `?option=value` behind
        it gives `prefix`, `replicas`, `storage`, `user`, `password`, `token`, `credentials` and the paths of TLS.
    :param client: your own `nats.NATS`, connected, in place of a URL. It serves `AsyncLimiter`, in the event loop in
        which it was connected. It is never closed, and reconnects as you have told it.
    :param prefix: the first part of every key.
    :param bucket: the bucket, which is made at first use if there is none.
    :param replicas: how many servers keep the bucket, from 1 to 5, where it is made.
    :param storage: `file` or `memory`, where it is made.
    :param timeout: the deadline of a call, in seconds. Connecting has one of its own.
    :param coalesce: let calls that come while a round trip is under way go together in the next one. A busy key needs
        it: without it, callers of one process refuse each other's writes less, but wait for each other all the same.
    :param remember_denials: for how many seconds at most a denial is repeated without asking the server again, while
        it is known that it would be denied; 0 for not at all. See docs/speed.md.
    :param breaker: when to stop asking a server that fails, so that nobody waits for it; False for never. See
        docs/outages.md.
    :param credentials: the path of a credentials file.
    :param tls_ca_certs, tls_certfile, tls_keyfile: paths of PEM files, for TLS; or give `tls`, an `ssl.SSLContext`.
    :param options: anything else that nats-py's `connect` takes and the store can leave to you: `user`, `password`,
        `token`, `name`, `inbox_prefix`, ...
    :raises StoreURLError: if the URL is not understood.
    :raises InvalidUse: if the client is none, or an option is not usable.

    Making a store does not connect: the server may be down. Safe to share between threads, tasks, event loops and
    forked processes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: NatsClient | None = None,
        prefix: str = "headgate",
        bucket: str = "headgate",
        replicas: int = 1,
        storage: Storage = "file",
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        breaker: Breaker | Literal[False] = DEFAULT,
        credentials: str | None = None,
        tls_ca_certs: str | None = None,
        tls_certfile: str | None = None,
        tls_keyfile: str | None = None,
        **options: Any,
    ) -> None:
        tls_files = {"tls_ca_certs": tls_ca_certs, "tls_certfile": tls_certfile, "tls_keyfile": tls_keyfile}
        given = {"prefix": prefix, "bucket": bucket, "replicas": replicas, "storage": storage, **options}
        given |= {name: value for name, value in tls_files.items() if value is not None}
        if credentials is not None:
            given["credentials"] = credentials
        if client is not None and (url is not None or options or credentials or any(tls_files.values())):
            raise InvalidUse("a store takes a client or a URL with its options, not both")
        if not isinstance(url, (str, type(None))):
            raise InvalidUse(
                f"url is a str, not {type(url).__name__}: give a client by its name, NatsStore(client=...)"
            )
        terms = Terms(timeout=timeout, coalesce=coalesce, remember_denials=remember_denials, breaker=breaker)
        made_from = {"url": url, **given, **terms.options}
        connector: Connector
        if client is not None:
            made = Bucket.checked(bucket, replicas, storage)
            connector = ClientConnector(client, made.name, timeout)
        else:
            url = url or "nats://localhost:4222"
            target, in_url = read_url(url)
            given |= in_url
            if not _LOGINS & set(given):
                given |= read_login(url)
            made = Bucket.checked(given["bucket"], given["replicas"], given["storage"])
            connect = {name: value for name, value in given.items() if name not in _OURS}
            is_secure = target.name.startswith("tls") or any(connect.get(name) for name in _OF_TLS)
            connect = _for_library(connect, is_secure=is_secure)
            connector = Connector(target.servers, f"{target.name}/{made.name}", timeout, connect, is_secure=is_secure)
        self._server = Server(connector, made, _checked_prefix(given["prefix"]), terms)
        super().__init__(self._server, terms, None if client is not None else made_from)
        if client is None:
            self.place = connector.name, given["prefix"]  # which may be in the URL

    def scan(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> Iterator[Entry]:
        """As `ScannableStore.scan`. Each page is a round trip. By `name` the server chooses; by its begin, we."""
        for page in self._pages(key_prefix, name, name_prefix):
            yield from page

    def clear(self, *, key_prefix: str = "", name: str | None = None, name_prefix: str = "") -> int:
        """As `ScannableStore.clear`."""
        self._learnt.clear()
        cleared = 0
        for page in self._pages(key_prefix, name, name_prefix):
            places = [Place(entry.name, entry.code, entry.key) for entry in page]
            if places:
                self._server.do(Session.remove, places)
            cleared += len(places)
        self._learnt.clear()
        return cleared

    def about(self) -> dict[str, Any]:
        """The server's facts about itself (`server`) and about the bucket (`stream`), for operators, blocking.

        :raises StoreOutage: if the server does not answer.
        """
        return self._server.do(Session.about)

    def restore(self, entries: Iterable[Entry], /) -> int:
        """As `ScannableStore.restore`."""
        written = 0
        for page in pages(entries, PER_PAGE):
            restored = [Restored(Place(*entry[:3]), *entry[3:]) for entry in page]
            written += self._server.do(Session.restore, restored)
        return written

    def _pages(self, key_prefix: str, name: str | None, name_prefix: str) -> Iterator[list[Entry]]:
        """List what is owed, page by page. An entry that is written meanwhile moves to the end: it is listed once."""
        seen: set[Place] = set()
        first: int | None = 1
        while first is not None:
            listed, first, now_us = self._server.do(Session.page, first, name)
            page = [
                Entry(*place, kept.text, kept.until_us)
                for place, kept in listed
                if kept.text is not None
                and kept.until_us > now_us
                and place.key.startswith(key_prefix)
                and place.name.startswith(name_prefix)
                and place not in seen
            ]
            before = len(seen)
            seen.update(place for place, _ in listed)
            yield page
            if listed and len(seen) == before:  # these are all written again and again
                break


_MAX_PREFIX: Final = 128
_OURS: Final = frozenset({"prefix", "bucket", "replicas", "storage"})
_LOGINS: Final = frozenset({"user", "username", "password", "token"})
"""Options in whose place stands the user information of a URL."""
_TLS_FILES: Final = ("tls_ca_certs", "tls_certfile", "tls_keyfile")
_OF_TLS: Final = (*_TLS_FILES, "tls", "tls_hostname", "tls_handshake_first")
"""Whoever gives one of these wants TLS, whatever the scheme."""


def _checked_prefix(prefix: str) -> str:
    if len(check_prefix(prefix)) > _MAX_PREFIX:
        raise InvalidKey(f"a key prefix has at most {_MAX_PREFIX} characters for NATS, not {len(prefix)}")
    return prefix


def _for_library(options: dict[str, Any], *, is_secure: bool) -> dict[str, Any]:
    """The options, as nats-py calls them."""
    options = dict(options)
    if "credentials" in options:
        options["user_credentials"] = options.pop("credentials")
    if "username" in options:
        options["user"] = options.pop("username")
    files = {name: options.pop(name, None) for name in _TLS_FILES}
    if any(files.values()) or (is_secure and not options.get("tls")):
        if options.get("tls"):
            raise InvalidUse("give tls, or the paths of its files, not both")
        try:
            context = ssl.create_default_context(cafile=files["tls_ca_certs"])
            if files["tls_certfile"]:
                context.load_cert_chain(files["tls_certfile"], files["tls_keyfile"])
        except OSError as error:
            raise InvalidUse(
                f"the files of TLS are not usable: {error}: check {', '.join(filter(None, files.values()))}"
            ) from None
        options["tls"] = context
    return options

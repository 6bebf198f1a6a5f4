"""Opening connections to the servers of a URL, one server after the other, each within the deadline; or using the
client of somebody's.

nats-py connects, speaks TLS and authenticates. It is not to connect again by itself: what it would then send late was
given up by whoever asked for it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client as NatsClient

from headgate.errors import InvalidUse, MissingExtra, StoreOutage, StoreTimeout, StoreUnavailable
from headgate.runtime.loops import PerLoop, running_loop, start
from headgate.runtime.names import NameOverdue, names
from headgate.stores.nats import credentials
from headgate.stores.nats.library import Client, Unsecured, can_insist_on_tls
from headgate.stores.nats.link import Link
from headgate.stores.remote import tls
from headgate.stores.remote.connections import overdue

_TLS: Final = tls.Names("tls_", "nats", "tls")
_TAKEN: Final = frozenset(
    {"user", "password", "token", "user_credentials", "nkeys_seed", "nkeys_seed_str", "signature_cb", "user_jwt_cb"}
    | {"tls", "tls_hostname", "tls_handshake_first", "name", "inbox_prefix", "ping_interval", "max_outstanding_pings"}
)
"""Options of nats-py's that are for users. Others would change what the store relies on."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that nats-py does not take.

    :raises InvalidUse: if there is one.
    """
    refused = sorted(set(options) - _TAKEN)
    if refused:
        raise InvalidUse(f"a store of NATS does not take {', '.join(refused)}: it takes {', '.join(sorted(_TAKEN))}")


class Connector:
    """Opens connections, one for each event loop. Holds none.

    :param servers: the URL of each.
    :param name: where they are, without secrets.
    :param options: of nats-py's `connect`.
    :param is_secure: are secrets for TLS only? The scheme or an option says so.
    :raises InvalidUse: if an option is none of those or names no usable file, or TLS cannot be insisted on.
    """

    is_own = True
    """Are the connections ours to close?"""

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        timeout_s: float,
        options: Mapping[str, Any],
        *,
        is_secure: bool = False,
    ) -> None:
        check_options(options)
        credentials.check(options)
        if is_secure and not can_insist_on_tls():
            raise InvalidUse("this release of nats-py would not be kept from speaking plainly: install another one")
        self.name: Final = name
        self._servers = servers
        self._timeout_s = timeout_s
        self._options = dict(options)
        self._is_secure = is_secure
        self._first = 0

    async def connect(self) -> Link:
        """Open a connection to the first server that answers, from the one on that answered last.

        :raises StoreOutage: if none does.
        """
        outage: StoreOutage = overdue(self.name, self._timeout_s)
        for _ in self._servers:
            at = self._first % len(self._servers)
            try:
                return await self._connect_to(self._servers[at])
            except StoreOutage as found:
                outage = found
                self._first = at + 1
        raise outage

    async def _connect_to(self, server: str) -> Link:
        client = Client(is_secure=self._is_secure)
        link: Link | None = None
        problems: list[Exception] = []

        async def failed(error: Exception) -> None:
            problems.append(error)
            del problems[:-1]
            if link is not None:
                link.refused(str(error))

        async def lost() -> None:
            if link is not None:
                link.fail(StoreUnavailable(self.name, "the connection to it broke"))

        try:
            credentials.check(self._options)  # the files may be others by now
            async with asyncio.timeout(self._timeout_s):
                # nats-py has its event loop look for that, which takes a thread that others wait for, however long
                await names.find_async(urlsplit(server).hostname or "localhost", self._timeout_s)
                await client.connect(
                    servers=[server],
                    error_cb=failed,
                    closed_cb=lost,
                    allow_reconnect=False,
                    connect_timeout=max(1, int(self._timeout_s + 1)),
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    **{"name": "headgate", **self._options},
                )
                if self._is_secure and not client.is_over_tls:
                    raise Unsecured("nats-py greeted it by another way")
                link = Link(client, self.name, is_own=True)
                await link.open()
        except BaseException as error:
            start(_close(client))  # it may take longer than anybody can wait
            if not isinstance(error, Exception):
                raise
            told = problems[-1] if problems and isinstance(error, errors.NoServersError) else error
            raise self.outage(told) from error
        return link

    def outage(self, error: Exception) -> StoreOutage:
        """The outage that an error on connecting means."""
        if isinstance(error, StoreOutage):
            return error
        if isinstance(error, NameOverdue):
            return StoreTimeout(self.name, str(error))
        if isinstance(error, TimeoutError):
            return overdue(self.name, self._timeout_s)
        if isinstance(error, Unsecured):
            text = f"it does not speak TLS ({error}): write nats:// in the URL, without options of TLS, to do without"
            return StoreUnavailable(self.name, text)
        if isinstance(error, (InvalidUse, MissingExtra)):
            return StoreUnavailable(self.name, f"we cannot sign in: {error}")
        text = str(error).removeprefix("nats: ") or type(error).__name__
        if "authorization" in text.lower() or "authentication" in text.lower():
            text = f"it refuses our credentials ({text.strip()}): check user, password, token or credentials"
        elif isinstance(error, OSError):
            is_secure = self._is_secure or isinstance(error, ssl.SSLError)
            problem = tls.problem_of(text, _TLS, {}, is_secure=is_secure)
            text = problem or f"it cannot be reached ({text}): is the server up, and the address right?"
        return StoreUnavailable(self.name, text)


async def _close(client: NatsClient) -> None:
    with suppress(Exception):
        await client.close()


class ClientConnector(Connector):
    """Uses the client of somebody's, in its event loop."""

    is_own = False

    def __init__(self, client: NatsClient, bucket: str, timeout_s: float) -> None:
        if not isinstance(client, NatsClient):
            raise InvalidUse(f"client must be a nats.NATS that is connected, not {type(client).__name__}")
        super().__init__((), f"nats://(a client of yours)/{bucket}", timeout_s, {})
        self._client = client
        self._homes = PerLoop(lambda loop: loop)

    async def connect(self) -> Link:
        """Use the client's connection.

        :raises StoreUnavailable: if it is not connected.
        :raises InvalidUse: if it is of another event loop.
        """
        loop = running_loop()
        self._homes.get(loop)
        if any(home is not loop for home in self._homes.loops()):
            raise InvalidUse("a nats.NATS client serves the event loop in which it was connected, and no other")
        if not self._client.is_connected:
            raise StoreUnavailable(self.name, "the client is not connected")
        link = Link(self._client, self.name, is_own=False)
        try:
            async with asyncio.timeout(self._timeout_s):
                await link.open()
        except BaseException as error:
            link.close()  # else it would listen for as long as their client lives
            if not isinstance(error, Exception):
                raise
            raise self.outage(error) from error
        return link

"""nats-py, where its public way takes longer than all else that we do for a call, and where it would speak plainly
though TLS was asked for.

Its own way wakes three tasks for a request and its reply. Here a request is written at once, and a reply to us is
handed over as soon as it is read. Where a release of nats-py has other names inside, both go the public way, and TLS is
refused. This module must not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from nats.aio.client import Client as NatsClient

_STATUS: Final = "Status"


class Message(NamedTuple):
    """A message to be sent."""

    subject: str
    headers: Mapping[str, str]
    data: bytes


class Reply(NamedTuple):
    """A message that came."""

    status: str
    """Of the server itself: 404, say. Empty for a message that somebody has sent."""
    headers: Mapping[str, str]
    data: bytes


Received = Callable[[str, Reply], None]
"""Gets what comes, by its subject."""


class Unsecured(ConnectionError):
    """The connection is a plain one, and TLS was asked for."""


class Client(NatsClient):
    """A client that hands over at once what comes for one of its subscriptions, and that can insist on TLS.

    nats-py begins TLS where the server's first words, which come in plain, say that it is required. Whoever changes
    these would learn the password. This one begins it where it is offered, too, and says nothing without it.

    :param is_secure: is it to speak over TLS only?
    """

    def __init__(self, *, is_secure: bool = False) -> None:
        super().__init__()
        self._insists = is_secure
        self.is_over_tls = False
        """Was the server greeted over TLS?"""
        self.direct: tuple[int, Received] | None = None
        """The number of the subscription, and whom to hand it to."""

    async def _process_info(
        self,
        info: dict[str, Any],
        initial_connection: bool = False,  # noqa: FBT002  # as nats-py has it
    ) -> None:
        if initial_connection and self._insists and not self._is_encrypted():  # else it shook hands first
            if not (info.get("tls_required") or info.get("tls_available")):
                raise Unsecured("it neither requires it nor offers it; nothing was sent")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        self.is_over_tls = self._is_encrypted()
        if self._insists and not self.is_over_tls:
            raise Unsecured("it was not begun; nothing was sent")
        if self.is_over_tls:
            self._tell_protocol()
        return super()._connect_command()

    def _writer(self) -> asyncio.StreamWriter | None:
        writer = getattr(getattr(self, "_transport", None), "_io_writer", None)
        return writer if isinstance(writer, asyncio.StreamWriter) else None

    def _is_encrypted(self) -> bool:
        writer = self._writer()
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    def _tell_protocol(self) -> None:
        """Tell the protocol of its transport, as a loop does and nats-py does not after it has begun TLS. Else asyncio
        warns at the end of the connection, and never waits for who reads.
        """
        writer = self._writer()
        if writer is None:
            return
        protocol = writer.transport.get_protocol()
        if isinstance(protocol, asyncio.StreamReaderProtocol):
            with suppress(AssertionError):  # it was told by a release of nats-py that does so
                protocol.connection_made(writer.transport)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        direct = self.direct
        if direct is None or sid != direct[0]:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            direct[1](subject.decode(), _reply_of(headers, data))


def can_insist_on_tls() -> bool:
    """Has this release of nats-py the names inside by which a client of ours insists on TLS?"""
    return hasattr(NatsClient, "_process_info") and hasattr(NatsClient, "_connect_command")


def hand_over(client: NatsClient, subscription: Any, received: Received) -> None:
    """Have a client of ours hand over at once what comes for a subscription."""
    sid = getattr(subscription, "_id", None)
    if isinstance(client, Client) and type(sid) is int:
        client.direct = sid, received


def write_of(client: NatsClient) -> Callable[[bytes], object] | None:
    """Find what writes bytes of the protocol to a client's connection at once, if there is such a thing."""
    if not isinstance(client, Client):
        return None
    return getattr(getattr(client, "_transport", None), "write", None)


def size_of(message: Message) -> int:
    """The size of a message, with its headers, as the server counts it."""
    headers = message.headers
    return len(message.data) + (sum(map(len, headers)) + sum(map(len, headers.values())) + 4 * len(headers) + 12)


def packed(message: Message, reply: str) -> bytes:
    """A message to be published, in the protocol. `reply` is where the answer goes; empty if there is none."""
    subject, headers, data = message
    if not headers:
        return f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    return f"HPUB {subject} {reply} {len(head)} {len(head) + len(data)}\r\n".encode() + head + data + b"\r\n"


def _reply_of(head: bytes | None, data: bytes) -> Reply:
    if not head:
        return Reply("", {}, data)
    first, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip()] = value.strip()
    return Reply(first[len("NATS/1.0") :].strip().partition(" ")[0], headers, data)


def public_reply(message: Any) -> Reply:
    """A message, as nats-py hands it over."""
    headers = {str(getattr(name, "value", name)): value for name, value in (message.headers or {}).items()}
    return Reply(headers.get(_STATUS, ""), headers, message.data)

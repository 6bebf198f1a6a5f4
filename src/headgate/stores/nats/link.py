"""A connection to the server, in one event loop: requests, and their replies by a subject of ours.

Replies are handed to functions as soon as they are read: a task that waits for each would take as long as all else that
we do for a call. This module must not know what is asked, nor how the server is found.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from nats.aio.client import Client as NatsClient

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.runtime.loops import start
from headgate.stores.nats.library import Message, Reply, hand_over, packed, public_reply, size_of, write_of
from headgate.stores.remote.connections import anew

CLOSES_AFTER_S: Final = 10.0
"""How long after it was retired a link waits for replies that somebody still wants."""

Replied = Callable[["Reply | StoreOutage"], object]
"""Gets the reply to a request, or why there is none."""


class Request(NamedTuple):
    """Messages that are sent in their order, of which the last is replied to."""

    messages: Sequence[Message]
    replied: Replied


class Link:
    """A connection. To be made in its event loop, and used in no other.

    :param client: is connected.
    :param name: the server's, for outages.
    :param is_own: is the client ours to close?
    """

    def __init__(self, client: NatsClient, name: str, *, is_own: bool) -> None:
        self.client: Final = client
        self._name = name
        self._is_own = is_own
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{client.new_inbox()}."
        self._numbers = itertools.count(1)
        self._pending: dict[str, tuple[Replied, Sequence[Message]]] = {}
        """The requests that are not answered, by where their replies go, each with its messages."""
        self._collecting: dict[str, list[Reply]] = {}
        """The replies so far to requests that have several."""
        self._subscription: Any = None
        self._write: Any = None
        self.max_message = client.max_payload
        """The size of what the bucket takes in a message, with its headers."""
        self._is_retired = False
        self._deaf = ""
        """Why the server does not let us listen."""
        self.closing: asyncio.Future[None] | None = None
        """Done when it is closed; None while it is not being closed."""

    @property
    def is_usable(self) -> bool:
        """May more be asked?"""
        return not self._is_retired and self.client.is_connected

    async def open(self) -> None:
        """Listen for replies.

        :raises StoreUnavailable: if the server says that we must not.
        """

        async def came(message: Any) -> None:
            self._received(message.subject, public_reply(message))

        self._subscription = await self.client.subscribe(f"{self._inbox}*", cb=came)
        hand_over(self.client, self._subscription, self._received)
        if self._is_own:  # what is written at once comes behind what nats-py has kept so far
            await self.client.flush()
            self._write = write_of(self.client)
        # A flush that is cancelled ends the reading of nats-py when the server answers it: never on a client of theirs.
        if self._deaf:
            raise StoreUnavailable(self._name, f"we have no right to do that: {self._deaf}")

    def send(self, requests: Sequence[Request]) -> list[str]:
        """Send requests, in their order and in one write. Returns by what they can be given up. Nothing is replied
        before this returns.
        """
        asked: list[str] = []
        sent: list[tuple[Message, str]] = []
        for messages, replied in requests:
            inbox = f"{self._inbox}{next(self._numbers)}"
            *first, last = messages
            self._pending[inbox] = replied, messages
            asked.append(inbox)
            sent += [(message, "") for message in first]
            sent.append((last, inbox))
        if not self.client.is_connected:
            self._loop.call_soon(self.fail, StoreUnavailable(self._name, "the connection to it is lost"), asked)
        elif too_large := self._too_large(requests, asked):
            self._loop.call_soon(self._refuse_large, too_large)
            sent = [(message, inbox) for message, inbox in sent if inbox and inbox not in too_large]
            if sent:
                self._publish(sent)
        else:
            self._publish(sent)
        return asked

    def _too_large(self, requests: Sequence[Request], asked: list[str]) -> dict[str, int]:
        """The requests that the server would hang up for, or the bucket refuse, with their sizes. Of a batch, only the
        last message is replied to.
        """
        most = min(self.client.max_payload, self.max_message)
        sizes = [max([size_of(message) for message in request.messages]) for request in requests]
        return {inbox: size for inbox, size in zip(asked, sizes, strict=True) if size > most}

    def _refuse_large(self, too_large: dict[str, int]) -> None:
        limits = "max_payload, or the bucket's max_msg_size"
        for inbox, size in too_large.items():
            outage = StoreUnavailable(
                self._name, f"a state of {size} bytes is more than it takes in a message ({limits})"
            )
            outage.is_of_server = False
            self.fail(outage, [inbox])

    def _publish(self, sent: list[tuple[Message, str]]) -> None:
        if self._write is not None:
            self._write(b"".join([packed(message, inbox) for message, inbox in sent]))
        else:
            start(self._publish_publicly(sent))

    async def _publish_publicly(self, sent: list[tuple[Message, str]]) -> None:
        try:
            for message, inbox in sent:
                await self.client.publish(message.subject, message.data, inbox, dict(message.headers) or None)
        except Exception as error:  # whatever hinders nats-py is an outage
            self.fail(StoreUnavailable(self._name, f"nothing can be sent: {error}"), [inbox for _, inbox in sent])

    async def ask(self, message: Message) -> Reply:
        """Send a message, and wait for its reply.

        :raises StoreOutage: if there is none.
        """
        (reply,) = await self.ask_all([message])
        return reply

    async def ask_all(self, messages: Sequence[Message]) -> list[Reply]:
        """As `ask`, each."""
        futures: list[asyncio.Future[Reply | StoreOutage]] = [self._loop.create_future() for _ in messages]
        asked = self.send(
            [Request([message], partial(_tell, future)) for message, future in zip(messages, futures, strict=True)]
        )
        replies = []
        try:
            for future in futures:
                reply = await future
                if isinstance(reply, StoreOutage):
                    raise reply
                replies.append(reply)
        finally:
            self.give_up(asked)
        return replies

    async def collect(self, message: Message) -> list[Reply]:
        """Send a message that is replied to by several, and collect them; the last one has a status.

        :raises StoreOutage: if they do not come.
        """
        future: asyncio.Future[Reply | StoreOutage] = self._loop.create_future()
        (inbox,) = self.send([Request([message], partial(_tell, future))])
        collected = self._collecting[inbox] = []
        try:
            last = await future
        finally:
            del self._collecting[inbox]
            self.give_up([inbox])
        if isinstance(last, StoreOutage):
            raise last
        return [*collected, last]

    def _received(self, inbox: str, reply: Reply) -> None:
        if not reply.status and (collected := self._collecting.get(inbox)) is not None:
            collected.append(reply)
            return
        asked = self._pending.pop(inbox, None)
        if asked is not None:
            self._tell(asked[0], reply)
        if self._is_retired:
            self._close_if_idle()

    def _tell(self, replied: Replied, reply: Reply | StoreOutage) -> None:
        try:
            replied(reply)
        except Exception as error:  # a fault of ours must not end the reading of what others wait for
            self._loop.call_exception_handler({"message": "headgate: a reply was not taken", "exception": error})

    def refused(self, text: str) -> None:
        """The server has said that we must not publish somewhere, or listen: it does not reply to that."""
        words = text.lower()
        if f'"{self._inbox.lower()}*"' in words:  # which may be heard before or after the answer to the flush
            self._deaf = text
        refused = [
            inbox
            for inbox, (_, messages) in self._pending.items()
            if self._deaf or any(f'"{message.subject.lower()}"' in words for message in messages)
        ]
        self.fail(StoreUnavailable(self._name, f"we have no right to do that: {text}"), refused)

    def fail(self, outage: StoreOutage, asked: Iterable[str] | None = None) -> None:
        """Some requests will not be answered, or none of those that are under way."""
        for inbox in list(self._pending) if asked is None else asked:
            pending = self._pending.pop(inbox, None)
            if pending is not None:
                self._tell(pending[0], anew(outage))
        if self._is_retired:
            self._close_if_idle()

    def give_up(self, asked: Sequence[str]) -> None:
        """Nobody waits for these replies any more."""
        for inbox in asked:
            self._pending.pop(inbox, None)

    def retire(self) -> None:
        """Close as soon as nobody waits for a reply."""
        if not self._is_retired:
            self._is_retired = True
            self._loop.call_later(CLOSES_AFTER_S, self.close)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self._pending:
            self.close()

    def close(self) -> None:
        """Close at once. Those who still wait are told so."""
        self._is_retired = True
        if self.closing is None and not self._loop.is_closed():
            self.closing = start(self._close())
            self.fail(StoreUnavailable(self._name, "the connection to it was closed"))

    async def _close(self) -> None:
        client, subscription, self._subscription = self.client, self._subscription, None
        with suppress(Exception):  # it is gone already, or is not to be waited for
            if self._is_own:
                await client.close()
            elif subscription is not None:
                await subscription.unsubscribe()


def _tell(future: asyncio.Future[Reply | StoreOutage], reply: Reply | StoreOutage) -> None:
    if not future.done():
        future.set_result(reply)

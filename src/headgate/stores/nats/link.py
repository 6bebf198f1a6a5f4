"""A connection to the server, in one event loop: requests, and their replies by a subject of ours.

This module must not know what is asked, nor how the server is found.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from nats.aio.client import Client as NatsClient

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.runtime.loops import start
from headgate.stores.nats.library import Message, Reply, hand_over, packed, public_reply, write_of

Asked = asyncio.Future["Reply | StoreOutage"]


def anew(outage: StoreOutage) -> StoreOutage:
    """The same outage, for somebody else: what is raised keeps all that it went through."""
    made = type(outage)(outage.store, outage.problem)
    made.is_of_server = outage.is_of_server
    return made


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
        self._pending: dict[str, tuple[Asked, str]] = {}
        """The requests that are not answered, by where their replies go, each with its subject."""
        self._collecting: dict[str, list[Reply]] = {}
        """The replies so far to requests that have several."""
        self._subscription: Any = None
        self._write: Any = None
        self._is_retired = False
        self.closing: asyncio.Future[None] | None = None
        """Done when it is closed; None while it is not being closed."""

    @property
    def is_usable(self) -> bool:
        """May more be asked?"""
        return not self._is_retired and self.client.is_connected

    async def open(self) -> None:
        """Listen for replies."""

        async def came(message: Any) -> None:
            self._received(message.subject, public_reply(message))

        self._subscription = await self.client.subscribe(f"{self._inbox}*", cb=came)
        hand_over(self.client, self._subscription, self._received)
        await self.client.flush()  # the server has heard of it
        self._write = write_of(self.client)

    def ask(self, messages: Sequence[Message]) -> list[Asked]:
        """Send messages, each of which is replied to, in their order. A reply that never comes is an outage when the
        connection ends.
        """
        asked: list[Asked] = []
        sent: list[tuple[Message, str]] = []
        for message in messages:
            future: Asked = self._loop.create_future()
            reply = f"{self._inbox}{next(self._numbers)}"
            self._pending[reply] = future, message.subject
            asked.append(future)
            sent.append((message, reply))
        self._send(sent)
        return asked

    def ask_for_last(self, messages: Sequence[Message]) -> Asked:
        """Send messages in their order, of which the last is replied to."""
        *first, last = messages
        future: Asked = self._loop.create_future()
        reply = f"{self._inbox}{next(self._numbers)}"
        self._pending[reply] = future, last.subject
        self._send([*((message, "") for message in first), (last, reply)])
        return future

    async def collect(self, message: Message) -> list[Reply]:
        """Send a message that is replied to by several, and collect them; the last one has a status.

        :raises StoreOutage: if they do not come.
        """
        future: Asked = self._loop.create_future()
        reply = f"{self._inbox}{next(self._numbers)}"
        self._pending[reply] = future, message.subject
        collected = self._collecting[reply] = []
        try:
            self._send([(message, reply)])
            last = await future
        finally:
            del self._collecting[reply]
        if isinstance(last, StoreOutage):
            raise last
        return [*collected, last]

    def _send(self, sent: list[tuple[Message, str]]) -> None:
        largest = max(len(message.data) for message, _ in sent)
        if not self.client.is_connected:
            self.fail(StoreUnavailable(self._name, "the connection to it is lost"), [reply for _, reply in sent])
        elif largest > self.client.max_payload - 1024:
            outage = StoreUnavailable(self._name, f"a state of {largest} bytes is more than it takes in a message")
            outage.is_of_server = False
            self.fail(outage, [reply for _, reply in sent])
        elif self._write is not None:
            self._write(b"".join([packed(message, reply) for message, reply in sent]))
        else:
            start(self._publish(sent))

    async def _publish(self, sent: list[tuple[Message, str]]) -> None:
        try:
            for message, reply in sent:
                await self.client.publish(message.subject, message.data, reply, dict(message.headers) or None)
        except Exception as error:  # whatever hinders nats-py is an outage
            self.fail(StoreUnavailable(self._name, f"nothing can be sent: {error}"), [reply for _, reply in sent])

    def _received(self, subject: str, reply: Reply) -> None:
        if not reply.status and (collected := self._collecting.get(subject)) is not None:
            collected.append(reply)
            return
        asked = self._pending.pop(subject, None)
        if asked is not None and not asked[0].done():
            asked[0].set_result(reply)
        if self._is_retired:
            self._close_if_idle()

    def refused(self, text: str) -> None:
        """The server has said that we must not publish somewhere: it does not reply to that."""
        words = text.lower()
        refused = [reply for reply, (_, subject) in self._pending.items() if f'"{subject.lower()}"' in words]
        self.fail(StoreUnavailable(self._name, f"we have no right to do that: {text}"), refused)

    def fail(self, outage: StoreOutage, replies: Sequence[str] | None = None) -> None:
        """Some requests will not be answered, or none of those that are under way."""
        for reply in list(self._pending) if replies is None else replies:
            asked = self._pending.pop(reply, None)
            if asked is not None and not asked[0].done():
                asked[0].set_result(anew(outage))
        if self._is_retired:
            self._close_if_idle()

    def give_up(self, asked: Sequence[Asked]) -> None:
        """Nobody waits for these replies any more."""
        for future in asked:
            future.cancel()
        for reply in [reply for reply, (future, _) in self._pending.items() if future.cancelled()]:
            del self._pending[reply]

    def retire(self) -> None:
        """Close as soon as nobody waits for a reply."""
        self._is_retired = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        for reply in [reply for reply, (future, _) in self._pending.items() if future.done()]:
            del self._pending[reply]
        if not self._pending:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self._is_retired = True
        self.fail_quietly()
        if self.closing is None and not self._loop.is_closed():
            self.closing = start(self._close())

    def fail_quietly(self) -> None:
        """Tell those who still wait that it was closed."""
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                future.set_result(StoreUnavailable(self._name, "the connection to it was closed"))

    async def _close(self) -> None:
        client, subscription, self._subscription = self.client, self._subscription, None
        with suppress(Exception):  # it is gone already, or is not to be waited for
            if self._is_own:
                await client.close()
            elif subscription is not None:
                await subscription.unsubscribe()

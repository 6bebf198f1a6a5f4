"""The primary of a service that sentinels watch over: who is asked for it, and how it is made sure that it is one.

A server that has been a primary goes on answering as a replica: it reads, and so denies, by what it was told. So each
new connection begins with the question whether the server is a primary. This module must not know what a script does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

from redis import exceptions

from headgate.errors import StoreOutage, StoreUnavailable
from headgate.plans.sentinel import ASK_FOR_ROLE, Succession, is_primary
from headgate.plans.topology import Address, Remap
from headgate.stores.redis.address import describe_sentinels
from headgate.stores.redis.connections import PublicConnection, TransportConnection
from headgate.stores.redis.connector import Connector
from headgate.stores.redis.server import Server
from headgate.stores.remote import Primary, Terms
from headgate.stores.remote.connections import PendingRequest


class PrimaryConnector(Connector):
    """Opens connections to a server that has to be a primary."""

    def connect(self, left_s: float | None = None) -> PublicConnection:
        until_s = time.monotonic() + (self.timeout_s if left_s is None else left_s)
        connection = super().connect(left_s)
        try:
            (role,) = connection.ask(ASK_FOR_ROLE, 1, until_s - time.monotonic())
            self._check(role)
        except BaseException:
            connection.close()
            raise
        return connection

    async def connect_async(self) -> TransportConnection:
        connection = await super().connect_async()
        try:
            answered: asyncio.Future[list[Any] | StoreOutage] = asyncio.get_running_loop().create_future()

            def replied(replies: list[Any] | StoreOutage) -> None:
                if not answered.done():
                    answered.set_result(replies)

            connection.ask(PendingRequest(ASK_FOR_ROLE, 1, replied))
            async with asyncio.timeout(self.timeout_s):
                replies = await answered
            if isinstance(replies, StoreOutage):
                raise exceptions.ConnectionError(replies.problem)
            self._check(replies[0])
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, role: Any) -> None:
        if isinstance(role, Exception):
            raise exceptions.ResponseError(str(role))
        if not is_primary(role):
            raise exceptions.ReadOnlyError("READONLY it is a replica now")

    def refused(self, text: str) -> StoreOutage:
        if text.startswith("READONLY"):
            problem = "it is a replica now (READONLY), so the sentinels are asked again which server is the primary"
            return StoreUnavailable(self.name, problem)
        return super().refused(text)


class SentinelConnector(Connector):
    """Opens connections to a sentinel."""

    def at(self, host: str, port: int) -> Self:
        connector = super().at(host, port)
        connector.name = f"sentinel {Address(host, port)}"
        return connector

    def refused(self, text: str) -> StoreOutage:
        if text.startswith(("NOAUTH", "WRONGPASS")):
            problem = "it refuses the user name or password: check sentinel_username and sentinel_password"
            return StoreUnavailable(self.name, problem)
        if "unknown command" in text:
            return StoreUnavailable(self.name, "it is no sentinel: check the port in the URL, which mostly is 26379")
        return super().refused(text)


def sentinel_timeout_s(timeout_s: float) -> float:
    """The deadline of asking one sentinel: if it hangs, there has to be time for another."""
    return timeout_s / 2


def make_primary(
    connector: Connector,
    sentinels: Sequence[tuple[Address, SentinelConnector]],
    service: str,
    prefix: str,
    terms: Terms,
    remap: Remap | None,
) -> Primary:
    """Make what asks the primary of a service.

    :param connector: opens connections to the primary, once it has been told where that is.
    :param sentinels: where they are, and what opens connections to them.
    """
    own_terms = Terms(timeout=sentinel_timeout_s(terms.timeout_s), breaker=terms.breaker)
    advisers = {address: Server(one.at(*address), prefix, own_terms) for address, one in sentinels}
    succession = Succession(advisers, service, remap)

    def make_server(primary: Primary, address: Address) -> Server:
        return Server(connector.at(*address), prefix, terms, primary)

    name = describe_sentinels(list(advisers), service, connector.name)
    return Primary(name, succession, terms.timeout_s, make_server, advisers)

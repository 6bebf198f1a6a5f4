"""Who is asking: the key of a request, from its API key, its user or its address.

    identity = Identity("api_key", "user", "ip")

The first source that knows the caller names it: `key:` and a hash, `user:` and a name, `ip:` and a network. This
package must not know a limit, a framework or a store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from headgate.drive import Plan
from headgate.plans.commands import Call
from headgate.web.messages import WebRequest

KeyFunction = Callable[[Any], str | Awaitable[str | None] | None]
"""Names a caller by the framework's own request, or leaves it to the next source (None)."""
Source = str | KeyFunction
"""`api_key`, `user`, `ip`, or a function."""


class Identity:
    """The sources that are asked who a caller is, in order. Immutable; safe to share."""

    def __init__(self, *sources: Source, like: Identity | None = None) -> None:
        self.sources = sources or ("ip",)

    def of(self, request: WebRequest) -> Plan[Call, str]:
        """Name the caller of a request. A caller whom no source knows is `unknown`, all of them together."""
        for source in self.sources:
            if callable(source):
                named = yield Call(source, (request.native,))
                if named is not None:
                    return str(named)
            elif source == "user" and (user := request.user) is not None:
                named = user if isinstance(user, str) else (yield Call(_itself, (user,)))
                if named is not None:
                    return f"user:{named}"
            elif source == "ip" and request.peer is not None:
                return f"ip:{request.peer}"
        return "unknown"

    def address(self, request: WebRequest) -> str | None:
        """The caller's address, by what the trusted proxies say; None if it has none, as over a Unix socket."""
        return request.peer


def _itself(coming: Awaitable[str | None]) -> Awaitable[str | None]:
    return coming

"""One call of an MCP client, a tool's, a resource's or a prompt's, as rules and identities see it.

It is the same whichever library serves it: each makes it of its own context. This module must not know what is asked
of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components

Kind = Literal["tools", "resources", "prompts"]
"""The kinds of what is called."""

METHODS: Final[dict[str, Kind]] = {"tools/call": "tools", "resources/read": "resources", "prompts/get": "prompts"}
"""The methods of MCP that are calls."""

_HASHED: Final = re.compile(r"__[0-9a-f]+_(.+)", re.DOTALL)
"""The other name that FastMCP gives to a tool which apps may call."""


class McpCall:
    """A call of a client. Functions of the user's (`key`, `cost`, `tier`, `exempt_when`) are called with it.

    A `WebRequest`, whose path is `/tools/search`, say, and whose method is that of MCP.
    """

    __slots__ = ("arguments", "context", "http", "kind", "method", "name", "route", "session")

    def __init__(
        self,
        method: str,
        kind: Kind,
        name: str,
        arguments: Mapping[str, Any],
        context: Any,
        http: Any,
        session: Any,
    ) -> None:
        self.method: Final = method.upper()
        """`TOOLS/CALL`, `RESOURCES/READ` or `PROMPTS/GET`."""
        self.kind: Final = kind
        """`tools`, `resources` or `prompts`."""
        hashed = _HASHED.fullmatch(name) if kind == "tools" else None
        self.name: Final = name if hashed is None else hashed[1]
        """The name of the tool or prompt, or the resource's URI."""
        self.arguments: Final = arguments
        """The arguments as the client sent them: nobody has looked through them yet."""
        self.context: Final = context
        """The library's own: a `MiddlewareContext` of FastMCP, a `ServerRequestContext` of the SDK."""
        self.http: Final = http
        """The HTTP request with which the call came, Starlette's; None over other transports."""
        self.session: Final = session
        """The SDK's `ServerSession`, or None."""
        # A resource's URI is the client's to choose, where there are templates: a share for each would be no limit.
        self.route: Final = kind if kind == "resources" else f"{kind}/{self.name}"
        """The name of its share, where each is to have one: a tool's, a prompt's, or that of all resources."""

    @property
    def native(self) -> McpCall:
        """Itself."""
        return self

    @property
    def path(self) -> str:
        """Its kind and name, such as `/tools/search`."""
        return f"/{self.kind}/{self.name}"

    @property
    def peer(self) -> str | None:
        """The address of the other end of the HTTP connection; None over other transports."""
        client = None if self.http is None else self.http.client
        return None if client is None else str(client.host)

    @property
    def token(self) -> AccessToken | None:
        """The access token that the server's authentication has verified; None if there is none."""
        user = None if self.http is None else self.http.scope.get("user")
        return user.access_token if isinstance(user, AuthenticatedUser) else get_access_token()

    @property
    def user(self) -> str | None:
        """Whom the token stands for: its subject where it names one, with whoever issued it, or else its client.

        A person is one, however many clients he registers.
        """
        token = self.token
        if token is None:
            return None
        client, issuer, subject = principal_components(token)
        subject = subject or (token.claims or {}).get("sub")
        return f"client {client}" if subject is None else f"{subject} of {issuer}" if issuer else str(subject)

    def values(self, name: str) -> Sequence[str]:
        """All values of a header of HTTP, by its name in lower case; none over other transports."""
        return () if self.http is None else self.http.headers.getlist(name)

    def query(self, name: str) -> str | None:
        """A parameter of the URL; None if there is none."""
        return None if self.http is None else self.http.query_params.get(name)


def session_id(call: McpCall) -> str | None:
    """A source of identities: the session that the server has given to the client, over HTTP. None where there is none:
    over other transports, for a stateless server, and for clients of the protocol of 2026-07-28, which has no sessions.

    A client may begin as many sessions as it likes, and has a share with each. So it goes with another rule that limits
    the address, too.
    """
    connection = getattr(call.session, "_connection", None)  # the SDK tells nobody else which session it is
    found = getattr(connection, "session_id", None)
    return f"session:{found}" if found else None

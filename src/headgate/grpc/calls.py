"""A call of gRPC, as rules and identities see it. This module must not know what is decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

HEALTH: Final = ("/grpc.health.v1.Health/*",)
"""The methods of the health service, for `exempt`."""
REFLECTION: Final = ("/grpc.reflection.v1.ServerReflection/*", "/grpc.reflection.v1alpha.ServerReflection/*")
"""The methods of server reflection, likewise."""


class GrpcCall:
    """A call: what the functions of users, such as `cost` and `key`, are called with. Used by one call's handler.

    It is a `WebRequest` whose path is the full name of the method.
    """

    __slots__ = ("context", "path", "request", "route")

    method: Final = "POST"
    """The method of HTTP, which is one for all calls. The method of gRPC is the path."""

    def __init__(self, path: str, request: Any, context: Any, route: str | None = None) -> None:
        self.path: Final = path
        """The full name of the method: `/package.Service/Method`."""
        self.request: Final = request
        """The message; None where the client sends a stream of them."""
        self.context: Final = context
        """The `ServicerContext`, with `auth_context()` and all else that gRPC knows of the call."""
        self.route: Final = route

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The metadata that the client has sent: pairs of a name in lower case and a value."""
        return tuple(self.context.invocation_metadata() or ())

    @property
    def native(self) -> GrpcCall:
        """As `WebRequest.native`: the call itself."""
        return self

    @property
    def peer(self) -> str | None:
        """The address of the client, without its port; None for a Unix socket, or a peer without an address."""
        scheme, _, rest = self.context.peer().partition(":")
        if scheme == "ipv4":
            return str(rest.rpartition(":")[0]) or None
        if scheme == "ipv6":  # [::1]:50051, and the brackets are escaped
            return unquote(rest).rpartition(":")[0].strip("[]") or None
        return None

    @property
    def user(self) -> str | None:
        """The name in the client's certificate, where the server asks for one; None if it has shown none."""
        for identity in self.context.peer_identities() or ():
            return str(identity.decode("utf-8", "replace"))
        return None

    def values(self, name: str) -> Sequence[str]:
        """All values of a name in the metadata, in order. Those that are bytes are left out."""
        return [value for known, value in self.metadata if known == name and isinstance(value, str)]

    def query(self, name: str) -> str | None:
        """None: calls have no query."""
        return None

"""Requests and responses as rules and identities see them, whatever the framework.

Each framework's front makes a `WebRequest` of its own request, and a `WebResponse` of what it answers. This module must
not know any framework, nor what is asked of these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol


class WebRequest(Protocol):
    """A request. Fronts compute of it what is asked for, when it is asked for."""

    @property
    def method(self) -> str:
        """The method, in upper case."""

    @property
    def path(self) -> str:
        """The path as the framework routes it: decoded, and without the part at which the app is mounted. Where it is
        not known whether that takes an encoded slash for a slash, this stays `%2F`: rules then read it in both ways.
        """

    @property
    def route(self) -> str | None:
        """A text that tells the route from all others: its template as the framework writes it, with its methods where
        it has some, such as `GET /users/{id}`; None where it is not known.
        """

    @property
    def peer(self) -> str | None:
        """The address of the other end of the connection, as the server says it; None for a Unix socket."""

    @property
    def user(self) -> str | Awaitable[str | None] | None:
        """The user that the framework has authenticated, by a text that tells them apart; None if there is none. To be
        awaited where the framework has to ask for it.
        """

    @property
    def native(self) -> Any:
        """The framework's own request: the functions of users are called with it."""

    def values(self, name: str) -> Sequence[str]:
        """All values of a header, in order, by its name in lower case."""

    def query(self, name: str) -> str | None:
        """A parameter of the query; None if there is none."""


class WebResponse:
    """An answer: what `charge_when` and `actual_cost` are called with. `status_code` and `headers` are as in the
    frameworks; the names of headers in whatever case.
    """

    __slots__ = ("headers", "request", "status_code")

    def __init__(self, status_code: int, headers: Mapping[str, str], request: Any) -> None:
        self.status_code: Final = status_code
        self.headers: Final = Headers(headers)
        """The response's headers. Where there are several of one name, one of them."""
        self.request: Final = request
        """The framework's own request, with whatever the app has left on it."""


class Headers(dict[str, str]):
    """Headers by their names, in whatever case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, or the default."""
        return super().get(name.lower(), default)

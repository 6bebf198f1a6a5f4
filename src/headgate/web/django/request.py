"""A request of Django, as rules and identities see it. This module must not know what is decided about it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final, cast

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from headgate.web.django.views import route_of


class DjangoRequest:
    """See `WebRequest`.

    :param native: Django's own request, or that of REST framework.
    :param is_async: may nothing block here?
    :param view: what to call the route where URLs have not led to it, as in a test of a view alone.
    """

    __slots__ = ("_http", "_is_async", "_view", "native")

    def __init__(self, native: Any, *, is_async: bool, view: str | None = None) -> None:
        self.native: Final = native
        self._http: Final = http_of(native)
        self._is_async: Final = is_async
        self._view: Final = view

    @property
    def method(self) -> str:
        """As `WebRequest.method`."""
        return (self._http.method or "GET").upper()

    @property
    def path(self) -> str:
        """As `WebRequest.path`."""
        return self._http.path_info

    @property
    def route(self) -> str | None:
        """As `route_of`."""
        found = self._http.resolver_match
        return self._view if found is None else route_of(found, self.path)

    @property
    def peer(self) -> str | None:
        """As `WebRequest.peer`."""
        return self._http.META.get("REMOTE_ADDR") or None

    @property
    def user(self) -> str | Awaitable[str | None] | None:
        """The primary key of the user who is logged in."""
        user = getattr(self.native, "user", None)
        if self._is_async and is_unknown_yet(user):
            return self._ask_for_user()
        return _name_of(user)

    def values(self, name: str) -> Sequence[str]:
        """As `WebRequest.values`. Servers join those of one name, so that there is one at most."""
        key = name.upper().replace("-", "_")
        value = self._http.META.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}")
        return () if value is None else (value,)

    def query(self, name: str) -> str | None:
        """As `WebRequest.query`."""
        values = self._http.GET.getlist(name)
        return values[0] if values else None

    async def _ask_for_user(self) -> str | None:
        return _name_of(await loaded_user(self.native))


def http_of(native: Any) -> HttpRequest:
    """Django's request, of which REST framework's may be a wrapper."""
    return cast("HttpRequest", getattr(native, "_request", native))


def is_unknown_yet(user: object) -> bool:
    """Would it take a question to the database to know more of this user?"""
    return isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty


async def loaded_user(native: Any) -> Any:
    """The user of a request, asked for without blocking."""
    asking = getattr(native, "auser", None)
    if asking is not None:
        return await asking()
    return await sync_to_async(_load)(native.user)


def _load(user: Any) -> Any:
    bool(user.is_authenticated)
    return user


def _name_of(user: Any) -> str | None:
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    key = getattr(user, "pk", None)
    return None if key is None else str(key)

"""Stores as a configuration says them, and stores that are open. This module must not know a limiter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from headgate.breaker import Breaker
from headgate.config.places import WRONG, Place, nearest
from headgate.config.settings import StoreSettings
from headgate.errors import HeadgateError
from headgate.runtime.locks import lock
from headgate.stores.contract import Store
from headgate.stores.registry import share_store
from headgate.stores.remote.urls import scheme_of, shown
from headgate.stores.sharing import Share

MEMORY: Final = StoreSettings("memory", "memory://", shown="memory://")
"""Where limiters count if no store is named at all."""


def store_settings(name: str, said: Mapping[str, Any], place: Place) -> Any:
    """The store of a table, whose values were read. Problems are said."""
    said = dict(said)
    given = said.pop("store", None)
    if given is not None:
        return StoreSettings(name, "", shown=repr(given), given=given)
    if WRONG in said.values():
        return WRONG
    engine, url = said.pop("engine", None), said.pop("url", None)
    if url is None:
        url = "memory://" if engine == "memory" else "redis://localhost:6379/0"
    scheme = scheme_of(str(url))
    if engine is not None and (engine == "memory") != (scheme == "memory"):
        kind = f"one of {scheme}://" if scheme else "without a scheme"
        return place.at("engine").say(f"says {engine!r}, and the URL is {kind}: leave engine out")
    said = {key: str(value) if isinstance(value, str) else value for key, value in said.items()}
    _settle_password(said, str(url), place)
    _settle_database(said, str(url), place)
    breaker = said.get("breaker")
    try:
        if isinstance(breaker, Mapping):
            said["breaker"] = Breaker(**breaker)
        # Nothing is connected: it is seen whether the store takes its options, and what it is called.
        share = share_store(str(url), asks_in_loops=False, **said)
        share.close()
        where = getattr(share.store, "name", "") if "@" in str(url) else ""  # without user and password
        settings = StoreSettings(name, str(url), said, where or shown(str(url)).strip("'"))
    except HeadgateError as error:
        return place.say(str(error))
    except ImportError as error:
        return place.say(str(error))
    return settings


def _settle_password(said: dict[str, Any], url: str, place: Place) -> None:
    """See that URL and options do not say different things; an empty password is none."""
    for what in ("password", "username"):
        given = said.get(what)
        if given == "":
            del said[what]
        elif given is not None:
            in_url = _of_url(url, what)
            if in_url and in_url != given:
                place.at(what).say("the URL has another one: give it once")


def _settle_database(said: dict[str, Any], url: str, place: Place) -> None:
    before, _, query = url.partition("://")[2].partition("?")
    path = before.partition("/")[2]
    if "db" in said and path.isdigit() and "@" not in query and int(path) != said["db"]:
        place.at("db").say(f"is {said['db']}, and the URL says {path}: give it once")


def _of_url(url: str, what: str) -> str:
    try:
        return unquote(getattr(urlsplit(url), what) or "")
    except ValueError:  # several hosts, or none; whoever opens it says so
        return ""


def store_of(named: str | None, stores: Mapping[str, StoreSettings], place: Place) -> Any:
    """The store that a table names, or the one that there is."""
    if named is not None:
        known = stores.get(named)
        return known or place.at("store").say(f"there is no store {named!r}: {nearest(named, stores)}")
    if len(stores) > 1:
        return place.say(f"needs store: there are several, {', '.join(stores)}")
    return next(iter(stores.values()), MEMORY)


class OpenStores:
    """Stores that were opened for a configuration. A store whose settings stay is the same after a reload."""

    def __init__(self) -> None:
        self._shares: dict[str, tuple[StoreSettings, Share]] = {}
        self._lock = lock()

    def of(self, settings: StoreSettings) -> Store:
        """The store of some settings."""
        if settings.given is not None:
            return settings.given
        with self._lock:  # two stores in memory would count apart
            known = self._shares.get(settings.name)
            if known is None or known[0] != settings:
                share = share_store(settings.url, asks_in_loops=False, **settings.options)
                known = self._shares[settings.name] = settings, share
            return known[1].store

    def close(self) -> None:
        """Close what was opened here and nobody else needs."""
        while self._shares:
            self._shares.popitem()[1][1].close()

    async def aclose(self) -> None:
        """The same, in an event loop."""
        while self._shares:
            await self._shares.popitem()[1][1].aclose()

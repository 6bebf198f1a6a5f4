"""The part of an app's limits that a configuration file says, put together with what code says.

This module must not know a framework.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headgate.config.loading import Config, Source, load
from headgate.config.settings import WebSettings
from headgate.config.watching import Watch
from headgate.errors import InvalidUse
from headgate.identity import Identity
from headgate.rules import Rule, Rules

logger = logging.getLogger("headgate")


class OwnRules(NamedTuple):
    """Rules from code, and what goes for all of them."""

    all: Sequence[Rule]
    identity: Identity | None
    exempt: Sequence[str]
    allow: Sequence[str]
    deny: Sequence[str]

    def rules(self) -> Rules:
        """These rules alone."""
        return Rules(self.all, identity=self.identity, exempt=self.exempt, allow=self.allow, deny=self.deny)

    def with_those_of(self, config: Config) -> Rules:
        """These rules, and those of a configuration."""
        more = config.rules or Rules()
        return Rules(
            [*self.all, *more.all],
            identity=self.identity or more.identity,
            exempt=[*self.exempt, *more.exempt],
            allow=[*self.allow, *map(str, more.allow)],
            deny=[*self.deny, *map(str, more.deny)],
        )


class FromConfig:
    """The part of a configuration that is about one app. Safe to share between threads.

    :raises ConfigError: if it is missing or not understood.
    :raises InvalidUse: if it does not go together with what code says.
    """

    def __init__(self, source: Source | Config, own: OwnRules, *, watch: bool, on_sighup: bool) -> None:
        self._own = own
        self._limits: Any = None
        self.watch: Final = (
            Watch(source, self._apply, on_sighup=on_sighup, is_polling=watch)
            if (watch or on_sighup) and not isinstance(source, (Config, Mapping))
            else None
        )
        """Reads the file again when it changes."""
        config = load(source) if self.watch is None else self.watch.config
        self.rules: Final = own.with_those_of(config)
        """All rules, as they are at first."""
        if config.web is None:
            raise InvalidUse(f"{config.source}: there are several stores: say in [web] which one rules count in")
        self._web: Final[WebSettings] = config.web

    def options(self, store: Any, name: Any, headers: Any, body: Any) -> tuple[Any, dict[str, Any], Any, Any, Any]:
        """The store, the options of its URL, the name, the headers and the body of refusals: those of code, or else
        those of the configuration.
        """
        web = self._web
        if headers is False and web.headers is not None:
            headers = web.headers
        named = web.name if name is None else name
        body = body or web.body
        if store is not None:
            return store, {}, named, headers, body
        return web.store.given or web.store.url, dict(web.store.options), named, headers, body

    def start(self, limits: Any) -> None:
        """Let changes of the file take effect on an app's limits, for as long as those live."""
        self._limits = weakref.ref(limits)
        if self.watch is not None:
            weakref.finalize(limits, self.watch.close).atexit = False
            self.watch.start()

    def _apply(self, config: Config) -> None:
        limits = self._limits()
        if limits is None:
            return
        limits.rules = self._own.with_those_of(config)
        if config.web != self._web:
            logger.warning("headgate: %s: a new store, name or style of headers takes a restart", config.source)

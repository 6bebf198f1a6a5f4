"""The part of an app's limits that a configuration file says, put together with what code says.

This module must not know a framework.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from headgate.config.loading import Config, Source, load
from headgate.config.settings import WebSettings
from headgate.config.watching import Watch
from headgate.errors import InvalidUse
from headgate.identity import Identity
from headgate.rules import Rule, Rules
from headgate.rules.rule import LimitLike
from headgate.stores.contract import Store

logger = logging.getLogger("headgate")


class OwnRules(NamedTuple):
    """Rules from code, and what goes for all of them."""

    all: Sequence[Rule]
    identity: Identity | None
    exempt: Sequence[str]
    allow: Sequence[str]
    deny: Sequence[str]
    penalty: LimitLike | None = None

    def rules(self) -> Rules:
        """These rules alone."""
        said = self._asdict()
        return Rules(said.pop("all"), **said)

    def with_those_of(self, config: Config) -> Rules:
        """These rules, and those of a configuration."""
        more = config.rules or Rules()
        return Rules(
            [*self.all, *more.all],
            identity=self.identity or more.identity,
            exempt=[*self.exempt, *more.exempt],
            allow=[*self.allow, *map(str, more.allow)],
            deny=[*self.deny, *map(str, more.deny)],
            penalty=more.penalty if self.penalty is None else self.penalty,
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
        self.web: Final[WebSettings] = config.web
        """All that goes for the rules, as it is at first."""

    @property
    def store(self) -> tuple[str | Store, dict[str, Any]]:
        """The store, and the options of its URL."""
        store = self.web.store
        return store.given or store.url, dict(store.options)

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
        web = config.web
        if web is not None:
            limits.switch(web.is_enabled)
        if web is None or replace(web, is_enabled=self.web.is_enabled) != self.web:
            logger.warning("headgate: %s: a new store, name or style of headers takes a restart", config.source)

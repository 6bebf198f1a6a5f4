"""The configuration of this process: its stores and limiters by name, from a file or from code.

It may be changed at any time, from any thread: limiters that are in use go on with what is new. This module must not
know a web app.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from headgate.config.loading import Config, Source, load
from headgate.config.named import AS_CONFIGURED, EVERYBODY, Acquiring, ConfiguredLimiter, Timeout
from headgate.errors import ConfigError, InvalidUse
from headgate.runtime.locks import lock
from headgate.stores.contract import Store

if TYPE_CHECKING:
    from headgate.config.settings import LimiterSettings, StoreSettings
    from headgate.config.stores import OpenStores
    from headgate.config.watching import Watch

_CODE: Final = "the configuration"


class Configured:
    """Stores and limiters by name. Safe to share between threads."""

    def __init__(self) -> None:
        from headgate.config.stores import OpenStores

        self._lock = lock()
        self._stores: dict[str, StoreSettings] = {}
        self._limiters: dict[str, ConfiguredLimiter] = {}
        self._gone: dict[str, ConfiguredLimiter] = {}
        """Those that are configured no more. Who has one goes on with it, also when it comes back."""
        self._of_code: tuple[dict[str, StoreSettings], dict[str, LimiterSettings]] = {}, {}
        """Those that code has added to the file."""
        self._open_stores = OpenStores()
        self.watch: Watch | None = None
        """Reads the file again when it changes."""

    def replace(self, config: Config) -> None:
        """Have the stores and limiters of a configuration in place of all that there were. Those of a name that stays
        go on with what is new.
        """
        with self._lock:
            self._of_code = {}, {}
            self.reload(config)

    def reload(self, config: Config) -> None:
        """Have those of a file that has changed, and those that code has added since, which go before them."""
        with self._lock:
            stores, limiters = self._of_code
            self._stores = {**config.stores, **stores}
            settings = {**config.limiters, **limiters}
            for one in settings.values():
                self._put(replace(one, store=self._stores.get(one.store.name, one.store)))
            for name in self._limiters.keys() - settings.keys():
                self._gone[name] = self._limiters.pop(name)

    def add_store(self, name: str, said: Mapping[str, Any]) -> None:
        """Have a store, in place of another of its name."""
        from headgate.config.places import Place
        from headgate.config.stores import store_settings
        from headgate.config.tables import STORE

        place = Place(path=("stores", name))
        given = said.get("store")
        if given is not None and (len(said) > 1 or not isinstance(given, Store)):
            raise InvalidUse("store is a Store, and has its options already: give it alone, or a URL with options")
        settings = store_settings(name, said if given is not None else STORE.read(said, place), place)
        place.end(_CODE)
        with self._lock:
            self._stores[name] = self._of_code[0][name] = settings
            for limiter in self._limiters.values():
                if limiter.settings.store.name == name:
                    limiter.configure(replace(limiter.settings, store=settings))

    def add_limiter(self, name: str, said: Mapping[str, Any]) -> None:
        """Have a limiter, in place of another of its name."""
        from headgate.config.limiters import limiter_settings
        from headgate.config.places import Place
        from headgate.config.tables import LIMITER

        place = Place(path=("limiters", name))
        read = LIMITER.read(said, place)
        place.end(_CODE)
        settings = limiter_settings(name, read, self._stores, place)
        place.end(_CODE)
        with self._lock:
            self._of_code[1][name] = settings
            self._put(settings)

    def _put(self, settings: LimiterSettings) -> None:
        name = settings.name
        known = self._limiters.get(name) or self._gone.pop(name, None)
        if known is None:
            known = ConfiguredLimiter(settings, self._open_stores.of)
        known.configure(settings)
        self._limiters[name] = known

    @property
    def open_stores(self) -> OpenStores:
        """The stores that were asked."""
        return self._open_stores

    def limiter(self, name: str) -> ConfiguredLimiter:
        """The limiter of a name.

        :raises ConfigError: if there is none.
        """
        found = self._limiters.get(name)
        if found is None:
            from headgate.config.places import nearest

            known = nearest(name, self._limiters) if self._limiters else "call headgate.configure(...) first"
            raise ConfigError(_CODE, [f"there is no limiter {name!r}: {known}"])
        return found


_made: Final[dict[str, Configured]] = {}


def _here() -> Configured:
    return _made.get("") or _made.setdefault("", Configured())


def configure(source: Source | Config | None = None, *, watch: bool = False, on_sighup: bool = False) -> Config:
    """Read a configuration, and have its stores and limiters in this process, in place of all that were configured
    before. If it is not understood, those stay.

    :param source: a file of TOML, or a dict of the same shape; by default the file that the environment's
        HEADGATE_CONFIG names, or else `headgate.toml` in the current folder.
    :param watch: read the file again when it changes? One that is not understood then is logged, and has no effect.
    :param on_sighup: read it again when the process gets a SIGHUP, too? Only in the main thread; an earlier handler is
        called as well.
    :raises ConfigError: if it is missing or not understood. It says all that is wrong, each with file, table and key.
    :raises InvalidUse: if there is no file to watch, or this is not the main thread, and SIGHUP is to be heard.
    """
    here = _here()
    new: Watch | None = None
    if watch or on_sighup:
        from headgate.config.watching import Watch

        new = Watch(source, here.reload, on_sighup=on_sighup, is_polling=watch)
        config = new.config
    else:
        config = load(source)
    old, here.watch = here.watch, new
    if old is not None:
        old.close()
    here.replace(config)
    if new is not None:
        new.start()
    return config


def configured_watch() -> Watch | None:
    """The watch of the file that was configured last; None if it is not watched."""
    return _here().watch


def configure_store(name: str, url: str | None = None, *, store: Store | None = None, **options: Any) -> None:
    """Have a store of this name, as a table `[stores.NAME]` says it: `configure_store("main", "redis://...")`.

    :param store: a `Store`, such as `MemoryStore(clock)`, in place of a URL and options.
    :raises ConfigError: if something is not understood.
    """
    given = {"url": url, "store": store, **options}
    _here().add_store(name, {key: value for key, value in given.items() if value is not None})


def configure_limiter(name: str, limit: Any = None, **options: Any) -> None:
    """Have a limiter of this name, as a table `[limiters.NAME]` says it: `configure_limiter("api", "100/second")`. Its
    store is configured before; where there is none at all, it counts in memory.

    :raises ConfigError: if something is not understood.
    """
    given = {"limit": limit, **options}
    _here().add_limiter(name, {key: value for key, value in given.items() if value is not None})


def acquire(
    name: str, key: str = EVERYBODY, cost: int = 1, *, timeout: Timeout = AS_CONFIGURED, tier: str | None = None
) -> Acquiring:
    """A turn of the limiter of this name, to be waited for.

        await acquire("api")                acquire("api").wait()
        async with acquire("api"): ...      with acquire("api"): ...

    Those on the left are for event loops, those on the right block. Slots are held for the time of a block.

    :param key: whose share it is; without one, all have one share together.
    :param timeout: for how many seconds to wait: 0 for not at all, None for as long as it takes; by default, what is
        configured.
    :param tier: the caller's tier; one without limits of its own has those of everybody.
    :raises ConfigError: if there is no such limiter.
    :raises AcquireTimeout: when it is waited for, and would come too late. Nothing is spent.
    """
    return get_limiter(name).acquire(key, cost, timeout=timeout, tier=tier)


def get_limiter(name: str) -> ConfiguredLimiter:
    """The limiter of this name.

    :raises ConfigError: if there is none.
    """
    return _here().limiter(name)


def close() -> None:
    """Forget all that is configured, and close the connections of its stores as far as nobody else needs them. For the
    end of a program, or of a test.
    """
    if (here := _forget()) is not None:
        here.open_stores.close()


async def aclose() -> None:
    """The same, in an event loop: `await headgate.config.aclose()`, before it ends."""
    if (here := _forget()) is not None:
        await here.open_stores.aclose()


def _forget() -> Configured | None:
    here = _made.pop("", None)
    if here is not None and here.watch is not None:
        here.watch.close()
    return here

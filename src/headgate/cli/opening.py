"""The store that a command is about: named by a URL, or by its name in a configuration file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headgate import InvalidUse

if TYPE_CHECKING:
    from headgate.stores import ScannableStore

NOT_UNDERSTOOD, OUTAGE = 2, 1
TIMEOUT_S = 5.0
"""The deadline of each step: longer than a web server's, since nobody waits but who typed the command."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a store."""
    command.add_argument(
        "--store",
        metavar="STORE",
        help="a URL, such as redis://localhost:6379/0, or the name of a store in the configuration file",
    )
    command.add_argument("--config", metavar="FILE", help="$HEADGATE_CONFIG or headgate.toml by default")
    command.add_argument(
        "--store-prefix", metavar="PREFIX", help="the prefix of the store's keys, for a URL (headgate by default)"
    )


@contextmanager
def opened(named: str | None, config: str | None, prefix: str | None) -> Iterator[ScannableStore]:
    """Open the store that arguments name, and close it in the end.

    :raises ConfigError: if the file is not understood.
    :raises StoreURLError: if a URL is not understood.
    :raises InvalidUse: if it is not clear which store that is, or the store cannot be listed.
    """
    from headgate.stores import ScannableStore
    from headgate.stores.registry import open_store

    options: dict[str, Any] = {} if prefix is None else {"prefix": prefix}
    if named is not None and named.lower().startswith("memory:"):
        raise InvalidUse("a store in memory is in one process, and nobody else can look at it: name another store")
    if named is not None and "://" in named:
        store = open_store(named, timeout=TIMEOUT_S, breaker=False, **options)
    elif prefix is not None:
        raise InvalidUse("--store-prefix goes with a URL: a configuration file says key_prefix itself")
    else:
        url, options = _configured(named, config)
        store = open_store(url, **{**options, "timeout": TIMEOUT_S, "breaker": False})
    try:
        if not isinstance(store, ScannableStore):
            raise InvalidUse(f"a store of this kind cannot be listed: {type(store).__name__}")
        yield store
    finally:
        store.close()


def _configured(named: str | None, file: str | None) -> tuple[str, dict[str, Any]]:
    from headgate.config import load

    stores = load(file, imports=False).stores
    if named is None and len(stores) != 1:
        there = f"there are {', '.join(stores)}" if stores else "it names none"
        raise InvalidUse(f"which store? Name it by --store: {there}")
    found = stores.get(named) if named is not None else next(iter(stores.values()))
    if found is None:
        raise InvalidUse(f"the configuration has no store {named!r}: there are {', '.join(stores) or 'none'}")
    return found.url, dict(found.options)


def name_of(store: ScannableStore) -> str:
    """Say where a store is, without its password."""
    return getattr(store, "name", type(store).__name__)

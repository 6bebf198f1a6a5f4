"""The store that a command is about: named by a URL, or by its name in a configuration file."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from headgate import HeadgateError, InvalidUse

if TYPE_CHECKING:
    from headgate.stores import ScannableStore

TIMEOUT_S = 5.0
"""The deadline of each step: longer than a web server's, since nobody waits but who typed the command."""


F = TypeVar("F", bound=Callable[..., Any])


class StoreAt(NamedTuple):
    """A store, as options name it: see `opened`."""

    named: str | None
    config: str | None
    """The configuration file."""
    prefix: str | None
    """Of the store's keys."""


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a store; the command has them as its argument `at`."""

    @functools.wraps(function)
    def bundled(*args: Any, store: str | None, config: str | None, store_prefix: str | None, **options: Any) -> Any:
        return function(*args, at=StoreAt(store, config, store_prefix), **options)

    for option in (
        click.option(
            "--store-prefix", metavar="PREFIX", help="The prefix of the store's keys, for a URL (headgate by default)."
        ),
        config_option,
        click.option(
            "--store",
            metavar="STORE",
            shell_complete=stores_named,
            help="A URL, such as redis://localhost:6379/0, or the name of a store in the configuration file.",
        ),
    ):
        bundled = option(bundled)
    return bundled


def config_option(function: F) -> F:
    """Add the option that names a configuration file."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(),
        help="The configuration file; $HEADGATE_CONFIG or headgate.toml by default.",
    )(function)


def limiter_option(function: F) -> F:
    """Add the option that names a limiter, of which alone something is wanted."""
    return click.option(
        "--limiter",
        metavar="NAME",
        shell_complete=limiters_named,
        help="Only what this limiter counts: all its limits, tiers and penalties.",
    )(function)


def json_option(function: F) -> F:
    """Add the option for output that programs read."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON.")(function)


def stores_named(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of stores in the configuration file, for a shell's completion."""
    return _named(context, "stores", incomplete)


def limiters_named(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Likewise those of limiters."""
    return _named(context, "limiters", incomplete)


def _named(context: click.Context, table: str, incomplete: str) -> list[str]:
    from headgate.config import load

    try:
        names = getattr(load(context.params.get("config"), imports=False), table)
    except HeadgateError:  # without a file, there is nothing to complete
        return []
    return [name for name in names if name.startswith(incomplete)]


@contextmanager
def opened(
    named: str | None, config: str | None, prefix: str | None, *, makes: bool = False
) -> Iterator[ScannableStore]:
    """Open the store that arguments name, and close it in the end.

    :param makes: is a file made that is not there yet?
    :raises ConfigError: if the file is not understood.
    :raises StoreURLError: if a URL is not understood.
    :raises InvalidUse: if it is not clear which store that is, or the store cannot be listed, or is not there.
    """
    from headgate.stores import ScannableStore
    from headgate.stores.registry import open_store

    options: dict[str, Any] = {} if prefix is None else {"prefix": prefix}
    if named is not None and "://" in named:
        url = named
    elif prefix is not None:
        raise InvalidUse("--store-prefix goes with a URL: a configuration file says key_prefix itself")
    else:
        url, options = _configured(named, config)
    if url.lower().startswith("memory:"):
        raise InvalidUse("a store in memory is in one process, and nobody else can look at it: name another store")
    store = open_store(url, **{**options, "timeout": TIMEOUT_S, "breaker": False})
    try:
        if not isinstance(store, ScannableStore):
            raise InvalidUse(f"a store of this kind cannot be listed: {type(store).__name__}")
        path = getattr(store, "path", None)
        if path is not None and not makes and not os.path.lexists(path):  # a slip, and nothing would be owed in it
            raise InvalidUse(f"there is no file {str(path)!r}: check the path; an app makes it by its first decision")
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

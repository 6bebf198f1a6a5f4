"""From a store's URL to the store: the schemes that there are, and the options that each takes.

Client libraries are imported when a URL asks for them. A store of somebody else's needs no entry here: it is given to a
limiter as an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Final

from headgate.errors import InvalidUse, StoreURLError
from headgate.stores.contract import Store
from headgate.stores.memory.store import MAX_ENTRIES, MemoryStore
from headgate.stores.sharing import Share, key_of

REDIS_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The schemes of Redis and its like, and what redis-py calls them."""
POSTGRES_SCHEMES: Final = ("postgresql", "postgres")
CLUSTER: Final = "+cluster"
"""Put behind a scheme where the server is a cluster."""
CLUSTER_SCHEMES: Final = tuple(f"{scheme}{CLUSTER}" for scheme in REDIS_SCHEMES if scheme != "unix")

SENTINEL: Final = "+sentinel"
"""Put behind a scheme where sentinels name the server."""
SENTINEL_SCHEMES: Final = tuple(f"{scheme}{SENTINEL}" for scheme in REDIS_SCHEMES if scheme != "unix")
NATS_SCHEMES: Final = ("nats", "tls")
"""The schemes of NATS."""


def _memory(url: str, *, max_entries: int = MAX_ENTRIES) -> Store:
    rest = url.partition("://")[2]
    if rest:
        raise StoreURLError(f"memory:// takes nothing behind it, not {len(rest)} characters")
    return MemoryStore(max_entries=max_entries)


def _redis() -> Callable[..., Store]:
    from headgate.stores.redis import RedisStore  # only here, so that the core needs no client library

    return RedisStore


def _postgres() -> Callable[..., Store]:
    from headgate.stores.postgres import PostgresStore  # likewise

    return PostgresStore


def _nats() -> Callable[..., Store]:
    from headgate.stores.nats import NatsStore  # likewise

    return NatsStore


def _sqlite() -> Callable[..., Store]:
    from headgate.stores.sqlite import SqliteStore

    return SqliteStore


_FAMILIES: Final[dict[str, Callable[[], Callable[..., Store]]]] = {
    "memory": lambda: _memory,
    "sqlite": _sqlite,
    **dict.fromkeys((*REDIS_SCHEMES, *CLUSTER_SCHEMES, *SENTINEL_SCHEMES), _redis),
    **dict.fromkeys(POSTGRES_SCHEMES, _postgres),
    **dict.fromkeys(NATS_SCHEMES, _nats),
}
"""By scheme, what imports the store of a URL."""


def share_store(url: str, *, asks_in_loops: bool, **options: Any) -> Share:
    """A share in the store that a URL names: of servers, one for all who ask for the same with the same options; of
    memory, always one of one's own.

    :param asks_in_loops: is it for an asyncio limiter?
    :raises StoreURLError, InvalidUse, MissingExtra: as `open_store` does.
    """
    url = anchored(url)
    return Share(key_of(url, options), lambda: open_store(url, **options), asks_in_loops=asks_in_loops)


def anchored(url: str) -> str:
    """The URL of the same store for whoever is in another folder: the path of a file is absolute."""
    scheme, _, path = url.partition(":///")
    if scheme.lower() != "sqlite" or not path or path[0] in "/:" or "\0" in path:  # whoever opens it says what is wrong
        return url
    return f"{scheme}:///{Path(path).absolute()}"


def open_store(url: str, **options: Any) -> Store:
    """Make the store that a URL names: `memory://`, or what `RedisStore` or `NatsStore` understands. Does not connect.

    :param options: passed on to the store, such as `prefix`, `timeout`, `remember_denials`.
    :raises StoreURLError: if the URL is not understood.
    :raises InvalidUse: if the store does not take an option.
    :raises MissingExtra: if the store's client library is not installed.
    """
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    family = _FAMILIES.get(scheme) if separator else None
    if family is None:
        shown = f"{scheme}://..." if re.fullmatch("[a-z][a-z+]*", scheme) and separator else "without a scheme"
        raise StoreURLError(
            f"store URL {shown} is not understood: it starts with one of "
            f"{', '.join(f'{name}://' for name in _FAMILIES)}"
        )
    make = family()
    refused = sorted(set(options) - _taken(make, options))
    if refused:
        raise InvalidUse(
            f"a store of {scheme}:// does not take {', '.join(refused)}: leave that out, or name a server's URL"
        )
    return make(url, **options)


def _taken(make: Callable[..., Store], options: Iterable[str]) -> set[str]:
    """The options that a store takes: those of its arguments, or all if it sees to that itself."""
    arguments = signature(make).parameters.values()
    if any(argument.kind is Parameter.VAR_KEYWORD for argument in arguments):
        return set(options)
    return {argument.name for argument in arguments if argument.kind is Parameter.KEYWORD_ONLY}

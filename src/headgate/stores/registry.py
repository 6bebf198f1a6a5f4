"""From a store's URL to the store. Client libraries are imported when a URL asks for them."""

from __future__ import annotations

from typing import Any

from headgate.errors import StoreURLError
from headgate.stores import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.sharing import Share, key_of

_REDIS = ("redis", "rediss", "valkey", "valkeys", "unix")
_CLUSTER = tuple(f"{name}+cluster" for name in _REDIS if name != "unix")


def share_store(url: str, *, asks_in_loops: bool, **options: Any) -> Share:
    """A share in the store that a URL names: of servers, one for all who ask for the same with the same options; of
    memory, always one of one's own.

    :param asks_in_loops: is it for an asyncio limiter?
    :raises StoreURLError, MissingExtra: as `open_store` does.
    """
    return Share(key_of(url, options), lambda: open_store(url, **options), asks_in_loops=asks_in_loops)


def open_store(url: str, **options: Any) -> Store:
    """Make the store that a URL names: `memory://`, or what `RedisStore` understands. Does not connect.

    :param options: passed on to the store, such as `prefix`, `timeout`, `remember_denials`.
    :raises StoreURLError: if the URL is not understood.
    :raises MissingExtra: if the store's client library is not installed.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if separator and scheme == "memory":
        if rest:
            raise StoreURLError(f"memory:// takes nothing behind it, not {len(rest)} characters")
        return MemoryStore()
    if separator and scheme in (*_REDIS, *_CLUSTER):
        from headgate.stores.redis import RedisStore  # only here, so that the core needs no client library

        return RedisStore(url, **options)
    shown = f"{scheme}://..." if separator else "without a scheme"
    raise StoreURLError(
        f"store URL {shown} is not understood: "
        f"it starts with one of memory://, {', '.join(f'{name}://' for name in (*_REDIS, *_CLUSTER))}"
    )

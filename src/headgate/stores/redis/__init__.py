"""The Redis and Valkey store. `store.py` says what it is; `library.py` is where it leans on redis-py."""

from __future__ import annotations

from headgate.stores.redis.address import SCHEMES
from headgate.stores.redis.store import RedisStore

__all__ = ["SCHEMES", "RedisStore"]

"""The Redis and Valkey store. `store.py` is what limiters ask, `server.py` answers batches,
`connector.py` connects, and `connections.py` has the connections of threads and event loops.
"""

from __future__ import annotations

from headgate.stores.redis.store import RedisStore

__all__ = ["RedisStore"]

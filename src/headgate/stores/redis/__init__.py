"""The Redis and Valkey store. `store.py` is what limiters ask, `server.py` and `cluster.py` answer batches,
`connector.py` connects, and `blocking.py` and `awaited.py` are the connections of threads and event loops.
"""

from __future__ import annotations

from headgate.stores.redis.store import RedisStore

__all__ = ["RedisStore"]

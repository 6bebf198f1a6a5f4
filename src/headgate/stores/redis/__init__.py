"""The Redis and Valkey store. See `store.py` for what it is, `dialling.py` for how it connects, `blocking.py` and
`awaited.py` for how threads and event loops ask.
"""

from __future__ import annotations

from headgate.stores.redis.address import SCHEMES
from headgate.stores.redis.store import RedisStore

__all__ = ["SCHEMES", "RedisStore"]

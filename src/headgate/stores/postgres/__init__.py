"""The PostgreSQL store. `store.py` is what limiters ask, `server.py` answers batches, `threads.py` and `tasks.py` have
the connections, `pools.py` has those of a user's pool, `connection.py` is one, and `scanning.py` is for operators.
"""

from __future__ import annotations

from headgate.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]

"""SQLite: state in a file, for all threads and processes of one machine.

- `store.py`: the store, and what operators ask of it.
- `file.py`: how a batch comes to the file, blocking and in an event loop, and what waits when others are writing.
- `connection.py`: one connection: its table, and a batch in one transaction.
- `turns.py`: whose turn it is to write, of all threads and processes.
"""

from __future__ import annotations

from headgate.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]

"""The memory store.

`store.py` is what limiters ask, `singles.py` its fast paths, `operations.py` how entries are changed, and `tables.py`
how they are kept, and how many.
"""

from __future__ import annotations

from headgate.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]

"""The NATS store: state in a key-value bucket of JetStream. `store.py` is what limiters ask, `server.py` answers
batches, `session.py` carries out in one event loop what the plans ask for, over a `link.py`; `connector.py` connects,
`bucket.py` makes the bucket and checks it, and `threads.py` has the event loop that threads ask in.
"""

from __future__ import annotations

from headgate.stores.nats.store import NatsStore

__all__ = ["NatsStore"]

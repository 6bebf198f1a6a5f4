"""The stores: where the state lives, and whose clock counts. The only place that imports a client library.

`contract.py` is what a limiter asks of a store. Two families fulfil it: Redis and its like compute where the data is,
in one round trip for a batch; memory and its like hold the state, and the algorithms run here.
`headgate.testing.StoreContract` tests a store of either family.
"""

from __future__ import annotations

from headgate.stores.contract import GiveUp, SingleHitStore, Store, Submit

__all__ = ["GiveUp", "SingleHitStore", "Store", "Submit"]

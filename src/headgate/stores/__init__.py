"""The stores: where the state lives, and whose clock counts. The only place that imports a client library.

`contract.py` is what a limiter asks of a store. Two families fulfil it: Redis and its like compute where the data is,
in one round trip for a batch; memory and its like hold the state, and the algorithms run here, by `holding.py`.

What the author of a store needs is exported here: docs/writing-a-store.md is the guide, and
`headgate.testing.StoreContract` tests a store of either family.
"""

from __future__ import annotations

from headgate.clock import Clock, system_clock
from headgate.decision import Decision, Single
from headgate.errors import StoreOutage, StoreTimeout, StoreUnavailable
from headgate.hits import Action, Group, Hit, Once, known
from headgate.limits import Limit
from headgate.stores.contract import Entry, GiveUp, ScannableStore, SingleHitStore, Store, Submit
from headgate.stores.holding import Load, Write, judge_group

__all__ = [
    "Action",
    "Clock",
    "Decision",
    "Entry",
    "GiveUp",
    "Group",
    "Hit",
    "Limit",
    "Load",
    "Once",
    "ScannableStore",
    "Single",
    "SingleHitStore",
    "Store",
    "StoreOutage",
    "StoreTimeout",
    "StoreUnavailable",
    "Submit",
    "Write",
    "judge_group",
    "known",
    "system_clock",
]

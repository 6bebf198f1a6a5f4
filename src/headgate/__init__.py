"""headgate: exact rate limiting in one round trip, sync and async, shared by any number of processes.

>>> from headgate import Limiter
>>> limiter = Limiter("2/minute")
>>> [bool(limiter.try_acquire("user:42")) for _ in range(3)]
[True, True, False]

This module is the face of the library, and holds no logic.
"""

from headgate.breaker import Breaker
from headgate.clock import Clock, ManualClock
from headgate.config import (
    Acquiring,
    Config,
    ConfiguredLimiter,
    acquire,
    configure,
    configure_limiter,
    configure_store,
    get_limiter,
)
from headgate.decision import Decision
from headgate.errors import (
    AcquireTimeout,
    ConfigError,
    CostExceedsCapacity,
    HeadgateError,
    InvalidCost,
    InvalidKey,
    InvalidUse,
    LimitError,
    LimitExceeded,
    LimitOutOfBounds,
    LimitSyntaxError,
    MissingExtra,
    StoreOutage,
    StoreTimeout,
    StoreUnavailable,
    StoreURLError,
)
from headgate.lease import Lease, LeaseReport
from headgate.limiter import AsyncLimiter, Limiter
from headgate.limiter.holds import Hold
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket
from headgate.limits.grammar import parse_limit
from headgate.observer import Observer
from headgate.stores import Store
from headgate.stores.memory import MemoryStore
from headgate.web.audit import audit

__version__ = "0.1.0"

__all__ = [
    "AcquireTimeout",
    "Acquiring",
    "AsyncLimiter",
    "Breaker",
    "Clock",
    "Concurrency",
    "Config",
    "ConfigError",
    "ConfiguredLimiter",
    "CostExceedsCapacity",
    "Decision",
    "FixedWindow",
    "HeadgateError",
    "Hold",
    "InvalidCost",
    "InvalidKey",
    "InvalidUse",
    "Lease",
    "LeaseReport",
    "Limit",
    "LimitError",
    "LimitExceeded",
    "LimitOutOfBounds",
    "LimitSyntaxError",
    "Limiter",
    "ManualClock",
    "MemoryStore",
    "MissingExtra",
    "Observer",
    "Penalty",
    "SlidingLog",
    "SlidingWindow",
    "Store",
    "StoreOutage",
    "StoreTimeout",
    "StoreURLError",
    "StoreUnavailable",
    "TokenBucket",
    "acquire",
    "audit",
    "configure",
    "configure_limiter",
    "configure_store",
    "get_limiter",
    "parse_limit",
]

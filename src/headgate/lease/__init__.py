"""Leases: tokens drawn from the store ahead of need, and spent here without asking it.

- `option.py`: how a limiter may draw, as users say it, and what has become of it, as they are told.
- `held.py`: for how long what was drawn is good, in whole numbers.
- `leases.py`: how much is drawn, and for whom.

None of it knows how a store is asked.
"""

from __future__ import annotations

from headgate.lease.leases import Draw, Leases
from headgate.lease.option import Lease, LeaseReport

__all__ = ["Draw", "Lease", "LeaseReport", "Leases"]

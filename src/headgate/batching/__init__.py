"""Coalescing: calls that arrive while a batch is on its way to the store go together in the next one.

Nobody waits for company: a single call leaves at once, and there is no timer. Calls are answered in the order in which
they came. Threads take turns: whoever finds no batch under way leads one, and hands over to the first who came
meanwhile. In an event loop, whoever calls first has a batch sent in the loop's next round.

The decisions are those that the calls would have had alone, in the same order. This package must not know what a store
is: it is given what makes a round trip. `threads.py` and `tasks.py` are the two ways; `batch.py` is what both share.
"""

from __future__ import annotations

from headgate.batching.batch import MAX_GROUPS, Arrive, GiveBack, decisions
from headgate.batching.tasks import AsyncCoalescer, Start
from headgate.batching.threads import ThreadCoalescer

__all__ = ["MAX_GROUPS", "Arrive", "AsyncCoalescer", "GiveBack", "Start", "ThreadCoalescer", "decisions"]

"""Coalescing: calls that arrive while a trip to the store is under way travel together in the next one.

Nobody waits for company: a lone call leaves at once, and there is no timer. Riders are asked for in the order in
which they came. Threads take turns: whoever finds no trip under way leads one, and hands over to the first who came
meanwhile. In an event loop, whoever calls first has a trip set out in the loop's next round.

The decisions are those that the calls would have had alone, in the same order. This package must not know what a store
is: it is given what makes a trip. `threads.py` and `tasks.py` are the two ways, and `riders.py` is what both share.
"""

from __future__ import annotations

from headgate.batching.batch import MAX_GROUPS, Arrive, GiveBack, decisions
from headgate.batching.tasks import AsyncCoalescer
from headgate.batching.threads import ThreadCoalescer

__all__ = ["MAX_GROUPS", "Arrive", "AsyncCoalescer", "GiveBack", "ThreadCoalescer", "decisions"]

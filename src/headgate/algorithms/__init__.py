"""The algorithms, each as one idea in two dialects: a Python reference and the Lua script beside it.

Both dialects use the same names and the same order of steps, and compute the same integers; the tests
compare them for equality. An algorithm is a module of pure functions over integers:

`judge(state, now, arguments, max_wait)`
    May this hit pass? Returns `(allowed, judged)`; nothing is written yet.
`spend(judged)` / `keep(judged)`
    Take the cost: `(state, expires_at, facts)`. Or leave everything as it is: `facts`. A state that is changed in place
    is changed once, however often a hit that was judged is spent; None says that it has been changed since then
    otherwise (a signal handler asks in the midst of another's call).
`repaired(judged)`
    What must be written of a hit to be spent that was denied: `(state, expires_at)` where the state was one of the
    future, since the clock stepped back. Were it not written, it would be repaired anew each time, until the clock is
    there again. Nearly always None.
`give_back(state, now, arguments, receipt)` / `take(state, now, arguments)`
    Return what an earlier hit took, or charge more whatever the limit says.
`pack(state, until_us, unit)` / `unpack(packed, unit)` / `least(now, unit)`
    A plain state and its `until_us` as one integer, and back; None of what is not plain. The `unit` is what all states
    of a table have in common: the rate of buckets, the period of windows. What is packed says something at `now` if it
    is greater than the `least`. For stores in memory: buckets and windows have it.
`fast_path(arguments)`
    What does `judge` with `spend` or `keep` in one, for states and times that are nothing special: see `FastPath`.
    Logs have it; that of packed states stands in the memory store, where a call more would tell.
`wire(arguments)` / `read(take, now, arguments)`
    The only two places that know how numbers travel to a script, and facts back from it.

A `state` of `None` means "nothing is owed". All times are integer microseconds since the epoch, and no
number that a script sees reaches 2**53, up to which the doubles of Lua count exactly.

The modules here must not know what a limit, a key, a store or a clock is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Facts = tuple[int, ...]
"""What a decision learns of one hit: integers whose meaning the algorithm's module tells."""

FastPath = Callable[[Any, int, int], tuple[bool, Any, int, Facts] | None]
"""By state (or None), now and a cost from 1 to the capacity: may it pass, and the state, its `expires_at` and the facts
as `spend` tells them; of what may not pass, the facts as `keep` tells them. None, with nothing done, is for `judge` to
see to."""

MAX_SPAN_US = 2**50 - 1
"""The longest time that a limit may span, or a caller may wait, in microseconds (35 years).

Until the year 2112, now + debt + increment < 2**52 + 2**51 + 2**50 < 2**53.
"""
MAX_DEBT_US = 2**51 - 1
"""Where a debt saturates, in microseconds (71 years)."""
MAX_TOKENS = 2**51 - 1
"""The largest number of tokens that a limit may count."""


class Algorithm(Protocol):
    """What a module here provides. What a state is, and what the facts mean, is the algorithm's own affair."""

    def judge(self, state: Any, now: int, arguments: Any, max_wait: int, /) -> tuple[bool, Any]: ...
    def spend(self, judged: Any, /) -> tuple[Any, int, Facts] | None: ...
    def keep(self, judged: Any, /) -> Facts: ...
    def repaired(self, judged: Any, /) -> tuple[Any, int] | None: ...
    def give_back(self, state: Any, now: int, arguments: Any, receipt: Any, /) -> tuple[Any, int, Facts]: ...
    def wire(self, arguments: Any, /) -> tuple[int | str, ...]: ...
    def wire_receipt(self, arguments: Any, receipt: Any, /) -> tuple[int | str, ...]: ...
    def read(self, take: Callable[[], int], now: int, arguments: Any, /) -> Facts: ...

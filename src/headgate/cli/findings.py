"""Findings about a store: what was looked at, whether it is as it should be, and what to change.

This module must not know any kind of store.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from headgate import StoreOutage
from headgate.cli.stored import duration
from headgate.hits import Group, Hit
from headgate.limits import Limit, TokenBucket
from headgate.limits.grammar import parse_limit
from headgate.limits.penalty import Penalty

if TYPE_CHECKING:
    from headgate.stores import ScannableStore

Level = Literal["ok", "note", "change", "fault"]
"""`note`: worth knowing. `change`: it works, and limits may come to harm. `fault`: it does not work."""

KEY: Final = "headgate-doctor"
"""The key, and the limit's name, by which is tried whether the store decides. It is forgotten again."""
ROUND_TRIPS: Final = 21
SLOW_S: Final = 0.05
"""A median round trip above this is near the 250 ms that a limiter waits by default: the slowest ones are above it."""
MOST_APART_S: Final = 1.0
ALL_KINDS: Final = ("1/s", "fixed-window 1/s", "sliding-window 1/s", "sliding-log 1/s", "concurrency 1; ttl=1s")


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    remedy: str = ""
    """The change to make; empty where there is none."""


def one_of_each() -> list[Limit]:
    """A limit of each algorithm."""
    return [*map(parse_limit, ALL_KINDS), Penalty(1, 1, block=1)]


def clock_ahead_s(store: ScannableStore, times: int = 5) -> float:
    """How far a store's clock is ahead of this machine's, in seconds; known to half of the fastest round trip."""
    return min(_round_trip(store) for _ in range(times))[1]


def _round_trip(store: ScannableStore) -> tuple[float, float]:
    """How long a question took, and how far ahead the store's clock was, in seconds."""
    before_s = time.time()
    began_s = time.perf_counter()
    (decision,) = store.decide([Group((Hit(TokenBucket(1), KEY, "headgate"),), 0, "peek")])
    took_s = time.perf_counter() - began_s
    return took_s, decision.now_us / 1e6 - (before_s + took_s / 2)


def of_decisions(store: ScannableStore) -> Iterator[Finding]:
    """Does the store decide, of each algorithm, and may we? Each is tried, and forgotten again."""
    missing = []
    for limit in one_of_each():
        hit = Hit(limit, KEY, KEY, 1, KEY if limit.code == "cc" else "")
        try:
            store.decide([Group((hit,))])
            store.decide([Group((hit,), 0, "forget")])
        except StoreOutage as outage:
            missing.append(outage.problem)
    if missing:
        for problem in dict.fromkeys(missing):
            yield Finding("fault", "deciding", problem)
    else:
        yield Finding("ok", "deciding", f"all {len(ALL_KINDS) + 1} algorithms decide, read and write")
    try:
        next(iter(store.scan(key_prefix=KEY)), None)
    except StoreOutage as outage:
        yield Finding("note", "listing", f"keys, top and reset will not work: {outage.problem}")
    else:
        yield Finding("ok", "listing", "what is kept can be listed")


def of_time(store: ScannableStore, *, has_own_clock: bool) -> Iterator[Finding]:
    """How long a round trip takes, and how far the clocks are apart."""
    measured = sorted(_round_trip(store) for _ in range(ROUND_TRIPS))
    median_s = statistics.median(took_s for took_s, _ in measured)
    told = f"{median_s * 1e3:.2f} ms in the median of {ROUND_TRIPS}, {measured[-1][0] * 1e3:.2f} ms at most"
    if median_s > SLOW_S:
        remedy = "move the app nearer to the store, raise timeout=, or lease tokens (docs/speed.md)"
        yield Finding("change", "round trip", told, remedy)
    else:
        yield Finding("ok", "round trip", told)
    if not has_own_clock:
        yield Finding("ok", "clock", "it is this machine's")
        return
    took_s, ahead_s = measured[0]
    words = (
        f"{duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} this machine's, to {took_s / 2e-3:.2f} ms"
    )
    if abs(ahead_s) > MOST_APART_S:
        remedy = "run NTP on both: decisions go by the store's clock alone, but times in logs and headers do not"
        yield Finding("note", "clock", words, remedy)
    else:
        yield Finding("ok", "clock", words)

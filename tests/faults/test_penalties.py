"""Processes that are denied together are blocked together, and a call within a call counts for both."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import headgate
from headgate import Limiter, ManualClock, MemoryStore
from tests.faults.processes import run_in_processes
from tests.faults.workers import be_denied
from tests.striking import Struck, code_of, each_point, strike

DENIALS, BLOCK_US = 40, 300_000


def test_processes_together_are_blocked_after_exactly_so_many_denials(valkey_url: str, prefix: str) -> None:
    """Each denial has a number of its own, until a block begins; and nothing passes while it lasts."""
    work = (be_denied, (valkey_url, prefix, "100/second; burst=5", f"{DENIALS} denials/h -> {BLOCK_US}us", 3.0))
    told = sorted(one for process in run_in_processes([work] * 3) for one in process)
    ends_us = sorted({blocked_until_us for _, _, blocked_until_us, _ in told if blocked_until_us})
    assert len(ends_us) >= 3
    since_us = 0
    for end_us in ends_us:
        began_us = end_us - BLOCK_US
        assert began_us >= since_us
        counted = sorted(
            count
            for allowed, now_us, blocked_until_us, count in told
            if not allowed and blocked_until_us == 0 and since_us <= now_us <= began_us
        )
        assert counted == list(range(1, DENIALS))
        assert not any(allowed and began_us < now_us < end_us for allowed, now_us, _, _ in told)
        since_us = end_us


def denied_limiter() -> Limiter:
    limiter = Limiter("9/minute", store=MemoryStore(ManualClock()), name="n", penalty="5 denials/hour -> 1h")
    assert limiter.try_acquire("k", 2)
    return limiter


def counted(limiter: Limiter) -> int:
    return int(limiter.peek("k", 0).facts[-1][1])


def test_a_denial_within_a_denial_counts_and_so_does_the_other() -> None:
    for point in each_point():
        limiter = denied_limiter()
        ask = partial(limiter.try_acquire, "k", 8)
        point.striking(ask, code_of(headgate), lambda ask=ask: ask())  # type: ignore[misc]
        if point.place:
            assert counted(limiter) == 2, point


def test_a_denial_that_an_exception_ends_counts_once_at_most() -> None:
    for point in each_point(with_collector=False):
        limiter = denied_limiter()
        with suppress(Struck):
            point.striking(partial(limiter.try_acquire, "k", 8), code_of(headgate), strike)
        limiter.try_acquire("another")
        assert counted(limiter) <= 1, point
        assert limiter.try_acquire("k", 7)

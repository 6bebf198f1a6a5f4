"""The plan of `acquire`: ask, and if the answer is "not now", wait for the turn.

Asks for `Ask` and `Pause` commands. A token bucket by itself is asked once: it admits into the future, and the plan
sleeps until the turn. Windows and slots cannot be reserved: the plan comes back when they say, and asks again. Whatever
interrupts a sleep gives the place back before it goes on.

To a penalty, who waits is denied when the wait is given up, and not before: until then, it is asked without counting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from headgate.decision import Decision
from headgate.drive import Plan
from headgate.errors import AcquireTimeout
from headgate.hits import Group
from headgate.limits import Concurrency, Penalty, TokenBucket
from headgate.plans import requests
from headgate.plans.commands import Ask, Command, IsTold, Pause
from headgate.plans.groups import give_back_groups

FIRST_POLL_US: Final = 5_000
"""The time after which a full set of slots is asked again; it doubles, up to `LAST_POLL_US`, since nobody knows when a
slot is released."""
LAST_POLL_US: Final = 250_000
MAX_JITTER_US: Final = 50_000
"""Waiters for the same window come back spread over this, or over a tenth of their wait if that is less."""


def acquire(
    group: Group,
    timeout_us: int,
    timeout: float | None,
    jitter: Callable[[], float],
    ask: Callable[[Group, IsTold | None], Plan[Command, Decision]] = requests.ask,
    ended: Callable[[Decision, int], None] | None = None,
) -> Plan[Command, Decision]:
    """Wait for the turn of `group`, at most `timeout_us`. `jitter` returns a random float from 0 to 1. `ended` is
    called with the last decision and how long we slept, in microseconds.

    :raises AcquireTimeout: as soon as it is known that the turn would come too late.
    """
    left_us = timeout_us
    all_slept_us = 0
    poll_us = FIRST_POLL_US
    # Only a single limit can reserve. In a group, one limit would be charged now for what another lets go later, and
    # what that lets go at once could be too much for the first. Penalties are never charged.
    first, *others = [hit.limit for hit in group.hits if not isinstance(hit.limit, Penalty)]
    reserves = not others
    uncounted = _uncounted(group)
    if reserves and isinstance(first, TokenBucket):  # its denial is final
        uncounted = group
    asked = group

    def asks_later(denial: Decision) -> bool:
        return left_us > 0 and _known_wait_us(denial) <= left_us

    def counts_denial(denial: Decision) -> bool:
        return asked is not group and bool(denial.facts) and not _is_blocked(denial)

    def is_last(decision: Decision) -> bool:
        return decision.allowed or not (asks_later(decision) or counts_denial(decision))

    while True:
        asked = uncounted if left_us > 0 else group
        decision = yield from ask(asked._replace(max_wait_us=left_us if reserves else 0), is_last)
        if decision.allowed:
            try:
                all_slept_us += yield from _sleep_until_turn(decision)
            except GeneratorExit:  # dropped: nobody is there to send what we would ask
                raise
            except BaseException:
                decision.claim()
                yield Ask(give_back_groups(decision), must_arrive=True)
                raise
            break
        if not asks_later(decision):
            if counts_denial(decision):
                decision = yield from ask(group, None)
            break
        known_us = _known_wait_us(decision)
        if known_us > 0:
            pause_us = known_us + int(jitter() * min(MAX_JITTER_US, known_us // 10))
        else:
            pause_us = int(poll_us * (0.5 + jitter() / 2))
            poll_us = min(2 * poll_us, LAST_POLL_US)
        slept_us: int = yield Pause(min(pause_us, max(left_us, 1)))
        all_slept_us += slept_us
        left_us = max(0, left_us - slept_us)
    if ended is not None:
        ended(decision, all_slept_us)
    if not decision.allowed:
        raise AcquireTimeout(decision, timeout or 0.0)
    return decision


def _sleep_until_turn(decision: Decision) -> Plan[Command, int]:
    all_slept_us = 0
    while all_slept_us < decision.wait_us:
        slept_us: int = yield Pause(decision.wait_us - all_slept_us)
        all_slept_us += slept_us
    return all_slept_us


def _uncounted(group: Group) -> Group:
    """The same group, of which a denial is counted by no penalty."""
    if not any(isinstance(hit.limit, Penalty) for hit in group.hits):
        return group
    return group._replace(
        hits=tuple(hit._replace(cost=0) if isinstance(hit.limit, Penalty) else hit for hit in group.hits)
    )


def _is_blocked(decision: Decision) -> bool:
    told = zip(decision.group.hits, decision.facts, decision.instants_us, strict=True)
    return any(
        isinstance(hit.limit, Penalty) and hit.limit.retry_after_us(facts, now_us, hit.cost) > 0
        for hit, facts, now_us in told
    )


def _known_wait_us(decision: Decision) -> int:
    """The time that a denied group has to wait at least; 0 where only slots are missing, which may be released at any
    time.
    """
    if not decision.facts:
        return decision.retry_after_us
    told = zip(decision.group.hits, decision.facts, decision.instants_us, strict=True)
    waits_us = [
        hit.limit.retry_after_us(facts, now_us, hit.cost)
        for hit, facts, now_us in told
        if not isinstance(hit.limit, Concurrency)
    ]
    return max(waits_us, default=0)

"""Decisions as headers tell of them: each limit as a policy, and how a key stands with it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from headgate.algorithms import Facts
from headgate.hits import Hit
from headgate.limits import Concurrency, Limit
from headgate.web.headers import Policy, Standing

_SECOND_US = 1_000_000


@functools.lru_cache(maxsize=4096)
def policy_of(limit: Limit, name: str) -> Policy:
    """A limit as clients are told of it."""
    if isinstance(limit, Concurrency):
        return Policy(name, limit.capacity, 0, "concurrent-requests")
    window_us = -(-limit.capacity * limit.period_us // limit.rate)  # of a bucket, the time in which it fills
    return Policy(name, limit.capacity, window_us, is_quota=limit.code != "pn")


def single_standing(
    limit: Limit, name: str, key: str, cost: int, facts: Facts, now_us: int, *, is_allowed: bool
) -> Standing:
    """How a key stands with the one limit that was asked."""
    return Standing(
        policy_of(limit, name),
        key,
        limit.remaining(facts, now_us),
        limit.reset_after_us(facts, now_us),
        0 if is_allowed else limit.retry_after_us(facts, now_us, cost) or 1,
        now_us,
    )


def standings_of(
    hits: Sequence[Hit],
    names: Sequence[str],
    facts: Sequence[Facts],
    instants_us: Sequence[int],
    *,
    is_allowed: bool,
) -> list[Standing]:
    """How things stand with each hit of a group."""
    found = []
    for index, (hit, name, now_us) in enumerate(zip(hits, names, instants_us, strict=True)):
        policy, limit = policy_of(hit.limit, name), hit.limit
        if not facts:
            found.append(Standing(policy, hit.key, None, 0, 0 if is_allowed else _SECOND_US, now_us))
            continue
        told = facts[index]
        retry_after_us = 0 if is_allowed else limit.retry_after_us(told, now_us, hit.needed)
        remaining, reset_after_us = limit.remaining(told, now_us), limit.reset_after_us(told, now_us)
        found.append(Standing(policy, hit.key, remaining, reset_after_us, retry_after_us, now_us))
    if not is_allowed and not any(standing.retry_after_us for standing in found):
        found[0] = found[0]._replace(retry_after_us=1)  # it is over by now, and was denied all the same
    return found

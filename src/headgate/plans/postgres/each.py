"""The commonest batch: single hits to spend now, on token buckets. From its groups to a call, and from the reply to
decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from headgate.algorithms import token_bucket
from headgate.decision import Answer, Decision
from headgate.hits import Group
from headgate.limits import TokenBucket
from headgate.plans.postgres.binary import bytea_array, int4, int8, int8_array
from headgate.plans.postgres.commands import Query
from headgate.plans.postgres.packing import Terms
from headgate.plans.postgres.places import frame

MAX_PARTS: Final = 2**62
"""A bucket whose tolerance has as many parts is decided the general way."""


class Share(NamedTuple):
    """The hits of a batch on one bucket."""

    indices: list[int]
    """Which groups of the batch."""
    arguments: tuple[int, int, int]


class Each(NamedTuple):
    """A call, and what is needed to read its reply."""

    query: Query
    shares: list[Share]
    """In the order of the call."""


def pack_each(groups: Sequence[Group], terms: Terms) -> Each | None:
    """Pack groups as one call; None if they are not all of this kind."""
    prefix = terms.prefix
    shares: dict[bytes, Share] = {}
    for index, group in enumerate(groups):
        limit, key, name, cost, *_ = group.hits[0]
        if type(limit) is not TokenBucket or not cost or not group.is_plain:
            return None
        arguments = limit.arguments(cost, 0, "")
        place = frame(prefix, name, "tb") + key.encode()
        share = shares.get(place)
        if share is None:
            if arguments[1] >= MAX_PARTS:
                return None
            shares[place] = Share([index], arguments)
        elif share.arguments == arguments:
            share.indices.append(index)
        else:
            return None
    if len(groups) == 1:
        ((place, share),) = shares.items()
        words = map(int8, token_bucket.wire(share.arguments))
        parameters = (int4(terms.lock_ms), place, *words)
        return Each(Query("token_bucket_single", parameters), [share])
    in_order = sorted(shares.items())
    found = {share.arguments for share in shares.values()}
    if len(found) == 1:
        own = [int8_array((word,)) for word in token_bucket.wire(found.pop())]
    else:
        wired = [token_bucket.wire(share.arguments) for _, share in in_order]
        own = [int8_array(words) for words in zip(*wired, strict=True)]
    counts = int8_array([len(share.indices) for _, share in in_order])
    parameters = (int4(terms.lock_ms), bytea_array([place for place, _ in in_order]), counts, *own)
    return Each(Query("token_bucket_each", parameters), [share for _, share in in_order])


def read_each(
    reply: Sequence[int], shares: Sequence[Share], groups: Sequence[Group], answers: list[Answer | None]
) -> int:
    """Put what was decided into `answers`, and return the server's time.

    :raises StopIteration, ValueError: if it is no reply to this.
    """
    now_us = reply[0]
    if now_us == -1:
        return _read_general(iter(reply[1:]).__next__, shares, groups, answers)
    count = len(shares)
    qs, rs, lefts = reply[1 : count + 1], reply[count + 1 : 2 * count + 1], reply[2 * count + 1 :]
    for (indices, arguments), q, r, left in zip(shares, qs, rs, lefts, strict=True):
        increment, _, rate = arguments
        tat = q * rate + r
        for number, index in enumerate(indices):
            is_allowed = number < left
            if is_allowed:
                tat += increment
            facts: Any = token_bucket.plain_facts(tat, now_us, arguments, is_allowed=is_allowed)
            answers[index] = Decision(groups[index], now_us, is_allowed, (facts,))
    return now_us


def _read_general(
    take: Callable[[], int], shares: Sequence[Share], groups: Sequence[Group], answers: list[Answer | None]
) -> int:
    now_us = take()
    for indices, arguments in shares:
        for index in indices:
            allowed = take() == 1
            facts: Any = token_bucket.read(take, now_us, arguments)
            answers[index] = Decision(groups[index], now_us, allowed, (facts,))
    return now_us

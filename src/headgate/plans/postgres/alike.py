"""The plan for single hits on token buckets that are alike but for their keys: the same call as in `each.py`, without
a group for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from headgate.algorithms import token_bucket
from headgate.decision import Answer, SingleHitDecision
from headgate.drive import Plan
from headgate.hits import SingleHit
from headgate.limits import TokenBucket
from headgate.plans.attempts import Refused
from headgate.plans.postgres.batch import Command, ask
from headgate.plans.postgres.binary import bytea_array, int4, int8_array
from headgate.plans.postgres.commands import Query
from headgate.plans.postgres.each import MAX_PARTS, Share, read_each
from headgate.plans.postgres.packing import Terms
from headgate.plans.postgres.places import frame
from headgate.plans.postgres.replies import NO_ANSWER


def is_alike(single: SingleHit) -> bool:
    """Is it a hit that `decide_alike` can judge?"""
    limit, cost = single.limit, single.cost
    return type(limit) is TokenBucket and cost > 0 and limit.arguments(cost, 0, "")[1] < MAX_PARTS


def decide_alike(
    single: SingleHit, keys: Sequence[str], terms: Terms, *, refused: Refused
) -> Plan[Command, list[Answer]]:
    """As `decide`, by the server's clock, for hits that are `is_alike`."""
    arguments = single.limit.arguments(single.cost, 0, "")
    begin = frame(terms.prefix, single.name, "tb")
    shares: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys):
        place = begin + key.encode()
        share = shares.get(place)
        if share is None:
            shares[place] = [index]
        else:
            share.append(index)
    in_order = sorted(shares)
    own = [int8_array((word,)) for word in token_bucket.wire(arguments)]
    counts = int8_array([len(shares[place]) for place in in_order])
    reply = yield from ask(
        Query("token_bucket_each", (int4(terms.lock_ms), bytea_array(in_order), counts, *own)), refused
    )
    answers: list[Answer | None] = [None] * len(keys)
    count = len(in_order)
    if reply[0] == -1 or len(reply) != 3 * count + 1:
        try:
            groups = [single.group(key) for key in keys]
            read_each(reply, [Share(shares[place], arguments) for place in in_order], groups, answers)
        except (StopIteration, ValueError):
            raise refused(NO_ANSWER) from None
        return [answer for answer in answers if answer is not None]
    now_us, increment, rate = reply[0], arguments[0], arguments[2]
    told = zip(in_order, reply[1 : count + 1], reply[count + 1 : 2 * count + 1], reply[2 * count + 1 :], strict=True)
    for place, q, r, left in told:
        debt = (q - now_us) * rate + r
        for index in shares[place]:
            decision = answers[index] = SingleHitDecision()
            decision.asked = single
            decision.key = keys[index]
            decision.now_us = now_us
            if left > 0:
                left -= 1  # noqa: PLW2901  # it is that of this bucket, and is used up here
                debt += increment
                decision.allowed = True
            else:
                decision.allowed = False
            decision.debt = debt
    return [answer for answer in answers if answer is not None]

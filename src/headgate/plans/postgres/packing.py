"""From groups to a call, the general way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from headgate.algorithms import texts
from headgate.hits import JUDGING, Group, marked_key
from headgate.plans.postgres.binary import bytea_array, int4, int8, int8_array, text_array
from headgate.plans.postgres.commands import Query
from headgate.plans.postgres.places import place_of

ACTIONS: Final = {"spend": 1, "peek": 2, "give_back": 3, "take": 4, "renew": 5, "forget": 6}
_UNDO: Final = 7
"""A `give_back` that takes back a spend and its mark."""
CODES: Final = {"tb": 1, "fw": 2, "sw": 3, "sl": 4, "cc": 5, "pn": 6}
_CLEANED: Final = ("sl", "cc")
"""Where a `peek`, too, drops what has expired."""


class Terms(NamedTuple):
    """The things that a call is told besides its groups."""

    prefix: str
    lock_ms: int
    """The longest that it may wait for somebody's lock."""


class Packed(NamedTuple):
    """A call, and what is needed to read its reply."""

    query: Query
    arguments: list[list[tuple[Any, ...]]]
    """For each group, those of each hit."""


def pack(groups: Sequence[Group], terms: Terms, near_us: int, now_us: int | None) -> Packed:
    """Pack groups as one call. `near_us` is a guess of the time, and `now_us` replaces the server's clock."""
    locked: set[bytes] = set()
    asked: set[bytes] = set()
    arguments: list[list[tuple[Any, ...]]] = []
    words: list[int | bytes] = []
    holders: list[str] = []
    for hits, max_wait_us, action, once in groups:
        own = []
        begin = len(words)
        words += (ACTIONS[action], max_wait_us, len(hits), 0, 0, 0)
        for hit in hits:
            limit = hit.limit
            place = place_of(terms.prefix, hit.name, limit.code, hit.key)
            (asked if action == "peek" and limit.code not in _CLEANED else locked).add(place)
            of_hit = limit.arguments(hit.cost, near_us, hit.holder)
            own.append(of_hit)
            wired: Sequence[int | str] = limit.algorithm.wire(of_hit)
            if action == "give_back":
                wired = (*wired, *limit.algorithm.wire_receipt(of_hit, hit.receipt))
            if hit.spare > 0 and action in JUDGING:
                wider = limit.algorithm.wire(limit.arguments(hit.needed, near_us, ""))
                words += (place, -CODES[limit.code], len(wider), *[word for word in wider if isinstance(word, int)])
            words += (place, CODES[limit.code], len(wired))
            for word in wired:
                if isinstance(word, str):
                    holders.append(texts.escaped(word))
                    words.append(len(holders))
                else:
                    words.append(word)
        words[begin + 5] = len(words) - begin - 6
        if once is not None:
            mark = place_of(terms.prefix, hits[0].name, hits[0].limit.code, marked_key(hits[0].key, once.mark))
            locked.add(mark)
            words[begin + 3 : begin + 5] = (mark, once.life_us or once.until_us)
            if once.takes_back:
                words[begin] = _UNDO
        arguments.append(own)
    places = [*sorted(locked), *sorted(asked - locked)]
    numbers = {place: number for number, place in enumerate(places, 1)}
    parameters = (
        int4(terms.lock_ms),
        None if now_us is None else int8(now_us),
        int4(len(locked)),
        bytea_array(places),
        int8_array([numbers[word] if isinstance(word, bytes) else word for word in words]),
        text_array(holders),
    )
    return Packed(Query("decide", parameters), arguments)

"""From groups to a call, packed as RESP.

A batch is split into parts: runs of single hits on token buckets that share their arguments, which are sent once, and
all other groups, one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from headgate.hits import JUDGING, Group, Hit
from headgate.keys import is_plain, storage_key, storage_key_frame
from headgate.limits import Limit, TokenBucket
from headgate.plans.redis.resp import word
from headgate.plans.redis.script import Script, compose

MARKED: Final = ":once:"
"""Put between the key of a state and a mark: that a group was counted which is to count once."""


class Run(NamedTuple):
    """A part of a batch: single hits on token buckets, one after the other, that share their arguments."""

    indices: list[int]
    """Which groups of the batch."""
    hits: list[Hit]
    arguments: tuple[int, int, int]


class One(NamedTuple):
    """A part of a batch: one group, whatever it is."""

    number: int
    """Which group of the batch."""
    arguments: list[tuple[Any, ...]]
    wider: list[tuple[Any, ...] | None]
    """For each hit that is to leave tokens, the arguments of one that would take these, too."""


def split(groups: Sequence[Group], pending: Sequence[int], near_us: int) -> list[Run | One]:
    """Split those groups of a batch that are pending into parts, in order."""
    parts: list[Run | One] = []
    run: Run | None = None
    run_limit: Limit | None = None
    run_cost = 0
    for index in pending:
        group = groups[index]
        first = group.hits[0]
        if type(first.limit) is TokenBucket and group.is_plain:
            if run is None or first.limit is not run_limit or first.cost != run_cost:
                run_limit, run_cost = first.limit, first.cost
                run = Run([], [], first.limit.arguments(run_cost, near_us, ""))
                parts.append(run)
            run.indices.append(index)
            run.hits.append(first)
        else:
            run = None
            arguments = [hit.limit.arguments(hit.cost, near_us, hit.holder) for hit in group.hits]
            wider = [
                hit.limit.arguments(hit.needed, near_us, "") if hit.spare and group.action in JUDGING else None
                for hit in group.hits
            ]
            parts.append(One(index, arguments, wider))
    return parts


def pack(parts: list[Run | One], groups: Sequence[Group], prefix: str, now_us: int | None) -> Script:
    """Pack the parts of a batch as one call."""
    keys: list[str] = []
    words: list[str] = [word("" if now_us is None else now_us)]
    head: tuple[str | int, ...]
    count = 1
    codes: set[str] = set()
    for part in parts:
        if isinstance(part, Run):
            codes.add("tb")
            limit, _, name, cost, *_ = part.hits[0]
            begin, end, size = storage_key_frame(prefix, name, "tb")
            for hit in part.hits:
                key = hit.key
                if hit.name is name and is_plain(key):
                    keys.append(f"${size + len(key)}\r\n{begin}{key}{end}\r\n")
                else:
                    keys.append(word(storage_key(prefix, key, hit.name, "tb")))
            words.append(run_words(limit, cost) % (len(str(len(part.hits))), len(part.hits)))
            count += 10
        else:
            hits, max_wait_us, action, once = groups[part.number]
            places = [storage_key(prefix, hit.key, hit.name, hit.limit.code) for hit in hits]
            own: list[str | int] = [] if once is None else ["undo" if once.takes_back else action]
            if once is not None and once.takes_back:
                for hit, arguments in zip(hits, part.arguments, strict=True):
                    own += hit.limit.code, *hit.limit.algorithm.wire(arguments)
            for (limit, _, _, _, _, receipt, *_), arguments, wider in zip(
                hits, part.arguments, part.wider, strict=True
            ):
                codes.add(limit.code)
                if wider is not None:
                    own += "spare", limit.code, *limit.algorithm.wire(wider)
                own.append(limit.code)
                own += limit.algorithm.wire(arguments)
                if action == "give_back":
                    own += limit.algorithm.wire_receipt(arguments, receipt)
            if once is None:
                head = action, max_wait_us, len(hits)
            else:
                places.append(f"{places[0]}{MARKED}{once.mark}")
                head = "once", once.life_us or once.until_us, len(places)
            keys += map(word, places)
            words += map(word, (*head, len(own), *own))
            count += 4 + len(own)
    sha, text = compose(frozenset(codes))
    begin = f"*{3 + len(keys) + count}\r\n{word('EVALSHA')}{word(sha)}{word(len(keys))}"
    return Script(sha, text, "".join((begin, *keys, *words)).encode())


@functools.lru_cache(maxsize=4096)
def run_words(limit: Limit, cost: int) -> str:
    """The words of a run, but for how many hits it has, and the length of that."""
    wired = limit.algorithm.wire(limit.arguments(cost, 0, ""))
    rest = "".join(map(word, (1 + len(wired), limit.code, *wired)))
    return f"{word('each')}{word(0)}$%d\r\n%d\r\n{rest}"

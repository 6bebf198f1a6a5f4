"""`headgate keys`: lists what a store keeps, whoever owes for the longest time first."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from operator import attrgetter

import click

from headgate.cli.chosen import Chosen
from headgate.cli.opening import StoreAt, json_option, limiter_option, name_of, opened, store_options
from headgate.cli.stored import Told, is_mark, told
from headgate.cli.tables import show


@click.command(
    short_help="list what a store keeps, the longest debts first",
    epilog="Exit codes: 0 done, 1 the store does not answer, 2 not understood.",
)
@store_options
@click.option("--prefix", metavar="TEXT", default="", help="Only keys that begin with this: user:")
@limiter_option
@click.option("--first", metavar="N", type=click.IntRange(min=0), default=20, help="At most so many; 0 for all (20).")
@json_option
def command(
    prefix: str,
    limiter: str | None,
    first: int,
    *,
    at: StoreAt,
    is_json: bool,
) -> int:
    """List the keys that owe something, those who owe for the longest time first. Penalties are marked.

    With --json, an object for each line: key, limit, algorithm, owes, left_s (seconds), is_blocked.
    """
    chosen = Chosen(prefix, limiter, at.config)
    with opened(*at) as there:
        entries = (told(entry) for entry in chosen.scan(there) if not is_mark(entry))
        found, all_in_all = longest(entries, first)
        place = name_of(there)
    if is_json:
        for one in found:
            print(json.dumps(one._asdict(), ensure_ascii=False))
    else:
        show(found, all_in_all, place)
    return 0


def longest(entries: Iterable[Told], first: int) -> tuple[list[Told], int]:
    """The entries that last for the longest time (all, if `first` is 0), and how many there are in all."""
    seen = 0

    def counted() -> Iterator[Told]:
        nonlocal seen
        for entry in entries:
            seen += 1
            yield entry

    by = attrgetter("left_s")
    found = heapq.nlargest(first, counted(), key=by) if first else sorted(counted(), key=by, reverse=True)
    return found, seen

"""`headgate copy`: carries what is owed from one store to another."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headgate.cli.chosen import Chosen
from headgate.cli.findings import clock_ahead_s
from headgate.cli.opening import config_option, json_option, limiter_option, name_of, opened, stores_named

if TYPE_CHECKING:
    from headgate.stores import Entry, ScannableStore

MOST_APART_S = 0.1
"""Clocks that are further apart than this are worth a warning."""


@click.command(
    short_help="carry what is owed from one store to another",
    epilog="Exit codes: 0 done, 1 a store does not answer, 2 not understood.",
)
@click.option(
    "--from",
    "source_named",
    metavar="STORE",
    required=True,
    shell_complete=stores_named,
    help="A URL, or a name in the file.",
)
@click.option("--to", "target_named", metavar="STORE", required=True, shell_complete=stores_named, help="Likewise.")
@config_option
@click.option("--from-prefix", metavar="PREFIX", help="The prefix of the source's keys, for a URL.")
@click.option("--to-prefix", metavar="PREFIX", help="Likewise of the target's.")
@click.option("--prefix", metavar="TEXT", default="", help="Only keys that begin with this: user:")
@limiter_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Count what would be carried, and write nothing.")
@json_option
def command(
    source_named: str,
    target_named: str,
    config: str | None,
    from_prefix: str | None,
    to_prefix: str | None,
    prefix: str,
    limiter: str | None,
    *,
    is_dry: bool,
    is_json: bool,
) -> int:
    """Carry what is owed from one store to another, and merge it with what is owed there.

    Run it before an app goes over to the other store, and once more when it has: docs/moving-stores.md.
    """
    chosen = Chosen(prefix, limiter, config)
    with (
        opened(source_named, config, from_prefix) as source,
        opened(target_named, config, to_prefix, makes=True) as target,
    ):
        entries = _counted(chosen.scan(source))
        if is_dry:
            written, seen = 0, sum(1 for _ in entries)
        else:
            compare_clocks(source, target)
            written, seen = target.restore(entries), entries.seen
        if is_json:
            print(json.dumps({"entries": seen, "written": written}))
        elif is_dry:
            print(f"{seen:,} entries in {name_of(source)}; nothing was written")
        else:
            print(f"{written:,} of {seen:,} entries written to {name_of(target)}, from {name_of(source)}")
            if written < seen:
                print("The others were known there already, or were over by then.")
    return 0


class _counted(Iterator["Entry"]):  # noqa: N801  # it is used as a function
    """Entries as they come, and how many have come. On a terminal, that is shown."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self._is_shown = sys.stderr.isatty()
        self.seen = 0

    def __next__(self) -> Entry:
        try:
            entry = next(self._entries)
        except StopIteration:
            if self._is_shown and self.seen >= 1_000:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            raise
        self.seen += 1
        if self._is_shown and self.seen % 1_000 == 0:
            print(f"\r{self.seen:,} entries ", end="", file=sys.stderr, flush=True)
        return entry


def compare_clocks(source: ScannableStore, target: ScannableStore) -> None:
    """Say so, if the stores' clocks are far apart: what is owed is a time by the clock of its store."""
    ahead_s = clock_ahead_s(target) - clock_ahead_s(source)
    if abs(ahead_s) <= MOST_APART_S:
        return
    what = "given away" if ahead_s > 0 else "owed in addition"
    print(
        f"headgate: the clock of {name_of(target)} is {abs(ahead_s):.2f} s {'ahead' if ahead_s > 0 else 'behind'}: of "
        f"each limit, as much is {what} as it earns in that time",
        file=sys.stderr,
    )

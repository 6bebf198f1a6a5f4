"""`headgate copy`: carries what is owed from one store to another."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headgate import ConfigError, InvalidUse, StoreOutage, StoreURLError
from headgate.cli.opening import NOT_UNDERSTOOD, OUTAGE, name_of, opened

if TYPE_CHECKING:
    from headgate.stores import Entry, ScannableStore

MOST_APART_S = 0.1
"""Clocks that are further apart than this are worth a warning."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "copy",
        help="carry what is owed from one store to another",
        description="Carries what is owed from one store to another, and merges it with what is owed there. Run it "
        "before an app goes over to the other store, and once more when it has: docs/moving-stores.md.",
        epilog="Exit codes: 0 done, 1 a store does not answer, 2 not understood.",
    )
    command.add_argument("--from", dest="source", metavar="STORE", required=True, help="a URL, or a name in the file")
    command.add_argument("--to", dest="target", metavar="STORE", required=True, help="likewise")
    command.add_argument("--config", metavar="FILE", help="$HEADGATE_CONFIG or headgate.toml by default")
    command.add_argument("--from-prefix", metavar="PREFIX", help="the prefix of the source's keys, for a URL")
    command.add_argument("--to-prefix", metavar="PREFIX", help="likewise of the target's")
    command.add_argument("--prefix", metavar="TEXT", default="", help="only keys that begin with this: user:")
    command.add_argument("--limiter", metavar="NAME", help="only limits of this name")
    command.add_argument("--dry-run", action="store_true", help="count what would be carried, and write nothing")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run `headgate copy`."""
    try:
        with (
            opened(arguments.source, arguments.config, arguments.from_prefix) as source,
            opened(arguments.target, arguments.config, arguments.to_prefix) as target,
        ):
            entries = _counted(source.scan(key_prefix=arguments.prefix, name=arguments.limiter))
            if arguments.dry_run:
                print(f"{sum(1 for _ in entries):,} entries in {name_of(source)}; nothing was written")
                return 0
            compare_clocks(source, target)
            written = target.restore(entries)
            print(f"{written:,} of {entries.seen:,} entries written to {name_of(target)}, from {name_of(source)}")
            if written < entries.seen:
                print("The others were known there already, or were over by then.")
    except (ConfigError, StoreURLError, InvalidUse) as error:
        print(f"headgate: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    except StoreOutage as outage:
        print(f"headgate: {outage}", file=sys.stderr)
        return OUTAGE
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
    ahead_s = _clock_ahead_s(target) - _clock_ahead_s(source)
    if abs(ahead_s) <= MOST_APART_S:
        return
    what = "given away" if ahead_s > 0 else "owed in addition"
    print(
        f"headgate: the clock of {name_of(target)} is {abs(ahead_s):.2f} s {'ahead' if ahead_s > 0 else 'behind'}: of "
        f"each limit, as much is {what} as it earns in that time",
        file=sys.stderr,
    )


def _clock_ahead_s(store: ScannableStore) -> float:
    """How far a store's clock is ahead of this machine's, in seconds; known to half a round trip."""
    from headgate.hits import Group, Hit
    from headgate.limits import TokenBucket

    before_s = time.time()
    (decision,) = store.decide([Group((Hit(TokenBucket(1), "clock", "headgate"),), 0, "peek")])
    return decision.now_us / 1e6 - (before_s + time.time()) / 2

"""`headgate keys`: lists what a store keeps, whoever owes for the longest time first."""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from headgate import ConfigError, InvalidUse, StoreOutage, StoreURLError
from headgate.cli.extras import require
from headgate.cli.opening import NOT_UNDERSTOOD, OUTAGE, add_options, name_of, opened
from headgate.cli.stored import Told, duration, told


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's arguments."""
    command = commands.add_parser(
        "keys",
        help="list what a store keeps, the longest debts first",
        description="Lists the keys that owe something, those who owe for the longest time first.",
        epilog="Exit codes: 0 done, 1 the store does not answer, 2 not understood.",
    )
    add_options(command)
    command.add_argument("--prefix", metavar="TEXT", default="", help="only keys that begin with this: user:")
    command.add_argument("--limiter", metavar="NAME", help="only limits of this name")
    command.add_argument("--first", metavar="N", type=count, default=20, help="at most so many; 0 for all (20)")
    command.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    command.set_defaults(run=run)


def count(text: str) -> int:
    """Read a number of rows."""
    rows = int(text)
    if rows < 0:
        raise argparse.ArgumentTypeError("a number of at least 0")
    return rows


def run(arguments: argparse.Namespace) -> int:
    """Run `headgate keys`."""
    try:
        with opened(arguments.store, arguments.config, arguments.store_prefix) as store:
            entries = (
                told(entry)
                for entry in store.scan(key_prefix=arguments.prefix, name=arguments.limiter)
                if "\0" not in entry.key  # a mark
            )
            found, all_in_all = longest(entries, arguments.first)
            place = name_of(store)
    except (ConfigError, StoreURLError, InvalidUse) as error:
        print(f"headgate: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    except StoreOutage as outage:
        print(f"headgate: {outage}", file=sys.stderr)
        return OUTAGE
    if arguments.json:
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


def show(found: Sequence[Told], all_in_all: int, place: str) -> None:
    """Print a table."""
    require("cli", "rich")
    from rich.table import Table
    from rich.text import Text

    from headgate.cli.console import console

    screen = console()
    if not found:
        screen.print(f"Nothing is owed in {place}.", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("key", overflow="fold")
    table.add_column("limit", overflow="fold")
    table.add_column("algorithm", no_wrap=True)
    table.add_column("owes")
    table.add_column("kept for", justify="right", no_wrap=True)
    for one in found:
        style = "red" if one.is_blocked else ""
        cells = (one.key, one.limit, one.algorithm, one.owes, duration(one.left_s))
        table.add_row(*[Text(printable(cell), style=style) for cell in cells])
    screen.print(table)
    more = f"the first {len(found):,} of " if len(found) < all_in_all else ""
    screen.print(f"{more}{all_in_all:,} in {place}", style="dim", soft_wrap=True)


def printable(text: str) -> str:
    """A text without what a terminal would act on."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)

"""`headgate doctor`: examines a store, and says what to change.

Each kind of store has a file of its own, `examine_....py`, which yields findings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from headgate import StoreOutage
from headgate.cli.extras import printable, require
from headgate.cli.failures import OUTAGE, UNHEALTHY
from headgate.cli.findings import Finding, of_decisions, of_time
from headgate.cli.opening import StoreAt, json_option, name_of, opened, store_options

if TYPE_CHECKING:
    from headgate.stores import ScannableStore

MARKS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "change": ("change", "yellow"),
    "fault": ("fault", "bold red"),
}


@click.command(
    short_help="check a store: reachable, its version, rights, clock and settings",
    epilog="Exit codes: 0 all is well (notes included), 4 it works and something should be changed, 1 it does not "
    "answer or not as it should, 2 not understood.",
)
@store_options
@json_option
def command(*, at: StoreAt, is_json: bool) -> int:
    """Examine a store: is it reachable, which version is it, has the user all rights, how far is its clock off, how
    long does a round trip take, may it forget limits, does it keep them over a restart.

    It decides once by each algorithm, for the key headgate-doctor, and has that forgotten again.
    """
    with opened(*at, makes=True) as there:
        found = examined(there)
        place = name_of(there)
    if is_json:
        told = {"store": place, "is_well": not code_of(found), "findings": [one._asdict() for one in found]}
        print(json.dumps(told, ensure_ascii=False))
    else:
        show(found, place)
    return code_of(found)


def examined(store: ScannableStore) -> list[Finding]:
    """Look at all of it. A store that stops answering is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(_examining(store))
    except StoreOutage as outage:
        found.append(Finding("fault", "reachable", outage.problem))
    return found


def _examining(store: ScannableStore) -> Iterator[Finding]:
    own, has_own_clock = _kind(store)
    is_ready = True
    for finding in own(store):
        is_ready = is_ready and finding.level != "fault"
        yield finding
    if is_ready:
        yield from of_decisions(store)
        yield from of_time(store, has_own_clock=has_own_clock)


def _kind(store: Any) -> tuple[Callable[[Any], Iterator[Finding]], bool]:
    """The examination of this kind of store, and whether it has a clock of its own."""
    match type(store).__name__:
        case "RedisStore":
            from headgate.cli.examine_redis import examine as of_redis

            return of_redis, True
        case "PostgresStore":
            from headgate.cli.examine_postgres import examine as of_postgres

            return of_postgres, True
        case "NatsStore":
            from headgate.cli.examine_nats import examine as of_nats

            return of_nats, True
        case "SqliteStore":
            from headgate.cli.examine_sqlite import examine as of_sqlite

            return of_sqlite, False
        case _:
            return (lambda _: iter(())), True


def code_of(found: Sequence[Finding]) -> int:
    """The exit code."""
    levels = {finding.level for finding in found}
    return OUTAGE if "fault" in levels else UNHEALTHY if "change" in levels else 0


def show(found: Sequence[Finding], place: str) -> None:
    """Print a table."""
    require("cli", "rich")
    from rich.table import Table
    from rich.text import Text

    from headgate.cli.console import console

    screen = console()
    screen.print(Text(place, style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        word, style = MARKS[one.level]
        told = Text(printable(one.found))
        if one.remedy:
            told.append(f"\n-> {one.remedy}", style="bold")
        table.add_row(Text(word, style=style), Text(one.what), told)
    screen.print(table)
    words = {0: "All is well.", UNHEALTHY: "It works, and something should be changed.", OUTAGE: "It does not work."}
    screen.print(Text(words[code_of(found)], style="bold"))

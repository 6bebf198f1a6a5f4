"""`headgate top`: who is being denied, live: a look at the store each second.

A look reads all that the store keeps, in small steps; between two looks is a pause at least as long as a look took.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from headgate import StoreOutage
from headgate.cli.chosen import Chosen
from headgate.cli.extras import printable, require
from headgate.cli.findings import clock_ahead_s
from headgate.cli.interrupt import held_back
from headgate.cli.opening import StoreAt, json_option, limiter_option, name_of, opened, store_options
from headgate.cli.standing import Look, Row, limits_of, look
from headgate.cli.stored import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from headgate.limits import Limit
    from headgate.stores import ScannableStore

LINES_AROUND: Final = 4
"""Lines of the screen that are no rows."""
IN_A_PIPE: Final = 20
BETWEEN: Final = 2
"""Characters between columns."""
LONGEST_STATE: Final = len("spending")


@click.command(
    short_help="see who is being denied, live",
    epilog="Exit codes: 0 ended (by Ctrl-C, too), 1 the store does not answer, 2 not understood. With --once also: "
    "3 somebody is being denied.",
)
@store_options
@click.option("--prefix", metavar="TEXT", default="", help="Only keys that begin with this: user:")
@limiter_option
@click.option("--first", metavar="N", type=click.IntRange(min=1), help="So many rows; as many as fit by default.")
@click.option("--every", metavar="S", type=click.FloatRange(0.1, 3_600), default=1.0, help="Seconds between looks (1).")
@click.option("--once", "is_once", is_flag=True, help="Look once, print, and end.")
@json_option
def command(
    prefix: str,
    limiter: str | None,
    first: int | None,
    every: float,
    *,
    at: StoreAt,
    is_once: bool,
    is_json: bool,
) -> int:
    """Show who is being denied now: those whom a penalty blocks, and those who have used up a limit, first.

    A store keeps what is owed, and not the limits: what is left of them is shown for limiters of the configuration
    file. With --json, an object for each look: at (seconds since 1970), store, seen, throttled, rows.
    """
    require("cli", "rich")
    limits, chosen = limits_of(at.config), Chosen(prefix, limiter, at.config)
    if is_once:
        with opened(*at) as there:
            return _once(Looks(there, limits, chosen), first, is_json=is_json)
    with suppress(KeyboardInterrupt), opened(*at) as there, _ended_politely():
        _live(Looks(there, limits, chosen), first, every, is_json=is_json)
    return 0


class Looks:
    """Looks at a store, one after the other."""

    def __init__(self, store: ScannableStore, limits: Mapping[str, Limit], chosen: Chosen) -> None:
        self._store = store
        self._limits = limits
        self._chosen = chosen
        self._ahead_us = int(clock_ahead_s(store) * 1e6)
        self._before: Mapping[tuple[str, str, str], int] | None = None
        self.place = name_of(store)
        self.has_limits = bool(limits)

    def take(self, first: int) -> Look:
        """Look, now."""
        now_us = time.time_ns() // 1_000 + self._ahead_us
        found = look(self._chosen.scan(self._store), self._limits, first, now_us, self._before)
        self._before = found.until_us
        return found


@contextmanager
def _ended_politely() -> Iterator[None]:
    """Have SIGTERM and SIGHUP unwind the stack, so that the terminal is left as it was."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    try:
        before = {number: signal.signal(number, end) for number in numbers}
    except ValueError:  # another thread than the main one
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _once(looks: Looks, first: int | None, *, is_json: bool) -> int:
    from headgate.cli.console import console
    from headgate.cli.failures import DENIED

    found = looks.take(first or IN_A_PIPE)
    if is_json:
        print(described(found, looks.place))
    else:
        screen = console()
        screen.print(drawn(found, looks, screen.width))
    return DENIED if found.throttled else 0


def _live(looks: Looks, first: int | None, every: float, *, is_json: bool) -> None:
    from headgate.cli.console import console

    screen = console()
    if is_json or not screen.is_terminal:
        while True:
            began_s = time.monotonic()
            found = looks.take(first or IN_A_PIPE)
            if is_json:
                print(described(found, looks.place), flush=True)
            else:
                screen.print(drawn(found, looks, screen.width))
                sys.stdout.flush()
            _pause(began_s, every)
    _on_terminal(screen, looks, first, every)


def _on_terminal(screen: Console, looks: Looks, first: int | None, every: float) -> None:
    from rich.live import Live

    began_s = time.monotonic()
    shown: RenderableType = drawn(looks.take(first or _rows_of(screen)), looks, screen.width)
    live = Live(shown, console=screen, screen=True, auto_refresh=False)
    try:
        with held_back():
            live.start(refresh=True)  # in here, since a signal that has waited comes when it has started
        while True:
            _pause(began_s, every)
            began_s = time.monotonic()
            problem = ""
            try:
                shown = drawn(looks.take(first or _rows_of(screen)), looks, screen.width)
            except StoreOutage as outage:  # it may come back
                problem = str(outage)
            with held_back():
                live.update(_with(shown, problem), refresh=True)
    finally:
        with held_back():
            live.stop()
            screen.print(shown)


def _pause(began_s: float, every: float) -> None:
    took_s = time.monotonic() - began_s
    time.sleep(max(every - took_s, took_s))


def _rows_of(screen: Console) -> int:
    return max(1, screen.size.height - LINES_AROUND)


def _with(shown: RenderableType, problem: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(printable(problem), style="bold red"), shown) if problem else shown


def described(found: Look, place: str) -> str:
    """A look, for programs."""
    rows = [row._asdict() for row in found.rows]
    told = {"at": time.time(), "store": place, "seen": found.seen, "throttled": found.throttled, "rows": rows}
    return json.dumps(told, ensure_ascii=False)


def drawn(found: Look, looks: Looks, width: int) -> RenderableType:
    """A look, as a table; on a narrow screen, of fewer columns and of shorter keys."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(f"{looks.place}  {time.strftime('%H:%M:%S')}", style="dim", no_wrap=True, overflow="ellipsis")
    sums = Text(f"{found.throttled:,} throttled of {found.seen:,}", style="bold")
    columns = {
        "key": [printable(row.key) for row in found.rows],
        "limit": [printable(row.limit) for row in found.rows],
        "state": [_state(row) for row in found.rows],
        "left": ["" if row.capacity is None else f"{row.remaining:,} of {row.capacity:,}" for row in found.rows],
        "owes": [row.owes for row in found.rows],
        "for": [duration(row.left_s) for row in found.rows],
    }
    if not looks.has_limits:
        del columns["left"]
    widths = widths_of(columns, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, wide in widths.items():
        is_number = name in ("left", "for")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis", width=wide)
    for index, row in enumerate(found.rows):
        style = "red" if row.is_blocked else "yellow" if row.is_throttled else ""
        table.add_row(*[Text(columns[name][index], style=style) for name in widths])
    return Group(head, sums, table)


def widths_of(columns: Mapping[str, Sequence[str]], width: int) -> dict[str, int]:
    """The columns that a screen has room for, and how wide each is. Keys and limits are as long as their owners like:
    they have what the others leave. Where that is little, what is owed is not told, and then not what is left.
    """
    from rich.cells import cell_len

    widths = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    widths["state"] = max(widths["state"], LONGEST_STATE)
    key, limit = widths["key"], widths["limit"]
    for name, enough in (("owes", min(key, 24) + min(limit, 16)), ("left", min(key, 8) + min(limit, 6))):
        if name in widths and _room(widths, width) < enough:
            del widths[name]
    room = max(2, _room(widths, width))
    widths["limit"] = min(limit, max(room - key, room // 3, 1))
    widths["key"] = min(key, room - widths["limit"])
    return widths


def _room(widths: Mapping[str, int], width: int) -> int:
    """How much is left for keys and limits."""
    others = [wide for name, wide in widths.items() if name not in ("key", "limit")]
    return width - sum(others) - BETWEEN * (len(widths) - 1)


def _state(row: Row) -> str:
    if row.is_blocked:
        return "blocked"
    if row.is_denied:
        return "denied"
    return "spending" if row.is_rising else ""

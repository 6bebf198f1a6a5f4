"""Tables of what a store keeps, for `headgate keys`, `peek` and `top`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from headgate.cli.extras import printable, require
from headgate.cli.stored import Told, duration

MOST: Final = 10_000
"""Characters of a line in a pipe: longer than any key with its limit."""


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
    if not screen.is_terminal and "COLUMNS" not in os.environ:  # a line for each key, whole, for those who look for one
        screen.width = MOST
    screen.print(table)
    more = f"the first {len(found):,} of " if len(found) < all_in_all else ""
    screen.print(f"{more}{all_in_all:,} in {place}", style="dim", soft_wrap=True)

"""The consoles that the commands print on.

On a terminal there are colours and drawings in place; otherwise plain text, wide enough for tables.
"""

from __future__ import annotations

import os

from rich.console import Console

WIDTH_OF_A_PIPE = 120


def console(*, stderr: bool = False) -> Console:
    """Make a console for standard output, or for standard error."""
    made = Console(stderr=stderr, highlight=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = WIDTH_OF_A_PIPE
    return made

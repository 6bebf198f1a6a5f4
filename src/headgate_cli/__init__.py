"""The `headgate` command's beginning: which commands there are, and where each is.

It stands beside the package `headgate`, and not in it, so that `headgate --help`, `--version` and the completion of a
word need not import a rate limiter first. The commands themselves are in `headgate.cli`, each in a file of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

NOT_UNDERSTOOD = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give back its exit code: 0 done, 1 not as it should be, 2 not understood; each command has
    more of its own. docs/command-line.md lists them.
    """
    try:
        from headgate_cli.group import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "click":
            raise
        print("headgate: click is not installed: pip install 'headgate[cli]'", file=sys.stderr)
        return NOT_UNDERSTOOD
    return run(argv)

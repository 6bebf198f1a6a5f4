"""The `headgate` command.

Each subcommand has a file of its own, which adds its arguments and imports what it needs only when it
runs: `headgate --help` works without any extra installed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from headgate import MissingExtra, __version__
from headgate.cli import config, copy, demo, keys, load, reset, schema


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="headgate", description="Tools around the headgate rate limiter.")
    top.add_argument("--version", action="version", version=f"headgate {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    config.add(commands)
    copy.add(commands)
    demo.add(commands)
    keys.add(commands)
    load.add(commands)
    reset.add(commands)
    schema.add(commands)
    top.set_defaults(run=None)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give back its exit code: 0 done, 1 not as it should be, 2 not understood."""
    top = parser()
    try:
        arguments = top.parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else 2
    if arguments.run is None:
        top.print_help()
        return 2
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except MissingExtra as error:
        print(f"headgate: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as in `headgate demo logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

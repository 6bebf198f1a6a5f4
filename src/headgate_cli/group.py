"""The group of all commands. A command's file is imported when the command runs, and not for the list of them.

This module must not import `headgate`, except where a command has failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

INTERRUPTED: Final = 130


class Listed(NamedTuple):
    """A command, as it is listed."""

    section: str
    words: str


COMMANDS: Final = {
    "check": Listed("Limits", "ask a limit for a key, and spend"),
    "peek": Listed("Limits", "ask what is left, and spend nothing"),
    "keys": Listed("Limits", "list what a store keeps, the longest debts first"),
    "top": Listed("Limits", "see who is being denied, live"),
    "reset": Listed("Limits", "forget what keys owe"),
    "copy": Listed("Limits", "carry what is owed from one store to another"),
    "doctor": Listed("Setting up", "check a store: reachable, its version, rights, clock and settings"),
    "config": Listed("Setting up", "check a configuration file, or print its JSON schema"),
    "schema": Listed("Setting up", "print the schema that a store needs in a database"),
    "completion": Listed("Setting up", "print what makes a shell complete these commands"),
    "demo": Listed("Trying it", "see one limit hold over three instances of an app"),
    "load": Listed("Trying it", "send many requests at once and check what was let through"),
}
"""All commands. The file `headgate.cli.NAME` has each as `command`."""


class Commands(click.Group):
    """The commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"headgate.cli.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list, without importing any of them."""
        for section in dict.fromkeys(one.section for one in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, one.words) for name, one in COMMANDS.items() if one.section == section])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        """Complete a command's name, likewise."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=one.words) for name, one in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Errors of ours become a line and an exit code."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output has gone, as in `headgate keys | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            from headgate.cli.failures import code_of

            return code_of(error)


def _version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if not is_wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"headgate {version('headgate')}")
    ctx.exit()


commands = Commands(
    name="headgate",
    help="Tools around the headgate rate limiter.",
    epilog="Each command has its own --help. Exit codes: 0 done, 1 a store does not answer, 2 not understood, "
    "3 denied; each command's help has its own.",
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        )
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
)


def run(argv: Sequence[str] | None) -> int:
    """Run a command line and give back its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given and "_HEADGATE_COMPLETE" not in os.environ:
        commands.main(["--help"], prog_name="headgate", standalone_mode=False)
        return 2
    try:
        code = commands.main(given, prog_name="headgate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except SystemExit as end:  # of the completion
        return end.code if isinstance(end.code, int) else 0
    return code if isinstance(code, int) else 0

"""`headgate completion`: prints what makes a shell complete commands, options and names in the file."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

FILES = {
    "bash": 'eval "$(headgate completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(headgate completion zsh)" in ~/.zshrc, after compinit',
    "fish": "headgate completion fish > ~/.config/fish/completions/headgate.fish",
}


@click.command(
    short_help="print what makes a shell complete these commands",
    epilog="Install it by one line. " + "; ".join(f"{shell}: {line}" for shell, line in FILES.items()) + ".",
)
@click.argument("shell", type=click.Choice(list(FILES)))
def command(shell: str) -> int:
    """Print what makes a shell complete commands, options, and the names of stores and limiters in headgate.toml."""
    from headgate_cli.group import commands

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(commands, {}, "headgate", "_HEADGATE_COMPLETE").source())
    return 0

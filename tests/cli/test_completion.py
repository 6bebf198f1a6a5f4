"""`headgate completion`: a real shell completes commands, options, and the names in a configuration file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.cli import main
from headgate_cli.group import COMMANDS, commands
from tests.parts import program


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_what_a_shell_takes(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_HEADGATE_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_another_shell_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


def completed(line: str, folder: Path) -> list[str]:
    """What a real bash offers behind a line."""
    script = folder / "headgate"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m headgate "$@"\n')
    script.chmod(0o755)
    # bash calls the function that `complete` names with these variables set, and reads COMPREPLY.
    words = line.split(" ")
    ask = (
        'eval "$(headgate completion bash)"; '
        f"COMP_WORDS=({line}{' ' if words[-1] else ''}); "
        f"COMP_CWORD={len(words) - 1}; "
        "_headgate_completion headgate; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    told = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    bash = shutil.which("bash") or program("bash")
    done = subprocess.run(
        [bash, "--norc", "-c", ask], capture_output=True, text=True, timeout=60, check=True, env=told, cwd=folder
    )
    return done.stdout.split()


def test_bash_completes_commands(tmp_path: Path) -> None:
    assert completed("headgate ch", tmp_path) == ["check"]
    assert completed("headgate co", tmp_path) == ["copy", "config", "completion"]


def test_bash_completes_subcommands_and_options(tmp_path: Path) -> None:
    assert completed("headgate config ch", tmp_path) == ["check"]
    assert completed("headgate top --on", tmp_path) == ["--once"]


def test_bash_completes_names_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "headgate.toml").write_text(
        '[stores.main]\nurl = "sqlite:///a.db"\n[stores.spare]\nurl = "sqlite:///b.db"\n'
        '[limiters.api]\nstore = "main"\nlimit = "1/s"\n'
    )
    assert completed("headgate keys --store ma", tmp_path) == ["main"]
    assert completed("headgate check k --limiter a", tmp_path) == ["api"]


def test_without_a_configuration_there_are_no_names(tmp_path: Path) -> None:
    assert completed("headgate keys --store ma", tmp_path) == []


def test_each_command_is_listed_as_it_calls_itself() -> None:
    context = commands.make_context("headgate", ["--help"], resilient_parsing=True)
    for name, listed in COMMANDS.items():
        command = commands.get_command(context, name)
        assert command is not None
        assert command.short_help == listed.words
        assert command.help
    assert commands.get_command(context, "nonsense") is None

"""The `headgate` command itself: its help, its version, and what it says where an extra is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import headgate
from headgate.cli import main
from tests.demo.running import command


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"headgate {headgate.__version__}\n"


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    written = capsys.readouterr().out
    assert "demo" in written
    assert "load" in written


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["demo", "nonsense"],
        ["demo", "logs", "--instance", "4"],
        ["demo", "logs", "--lines", "-1"],
        ["demo", "monitor", "--seconds", "0"],
        ["load"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage: headgate" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "start"], ["load", "--url", "http://127.0.0.1:1/"]])
def test_a_missing_extra_is_named(arguments: list[str]) -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(['rich', 'aiohttp', 'fastapi', 'uvicorn', 'redis']));"
    run = f"{hide} from headgate.cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'headgate[demo]'" in done.stderr
    assert "aiohttp" in done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(command("--version"), capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (0, f"headgate {headgate.__version__}\n")

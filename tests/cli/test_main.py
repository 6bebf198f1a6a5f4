"""The `headgate` command itself: its help, its version, and what it says where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a command line loads, by the script's way in."""
    run = f"import sys, headgate_cli; headgate_cli.main({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_imports_no_limiter_and_no_tables(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "click" in loaded
    assert not {name for name in loaded if name == "headgate" or name.startswith("headgate.")}
    assert not loaded & {"rich", "asyncio", "redis", "sqlite3"}


def test_a_command_imports_no_other_command() -> None:
    loaded = loaded_by("schema", "postgres", "--help")
    assert "headgate.cli.schema" in loaded
    assert not loaded & {"headgate.cli.keys", "headgate.cli.load", "headgate.cli.demo", "aiohttp", "rich"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["keys"], ["config", "check"]])
def test_without_click_it_says_what_to_install(arguments: list[str]) -> None:
    run = f"import sys; sys.modules['click'] = None; from headgate_cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "headgate: click is not installed: pip install 'headgate[cli]'\n"


def test_without_rich_tables_say_what_to_install_and_json_needs_none(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['rich'] = None; from headgate.cli import main;"
    named = ["--store", f"sqlite:///{tmp_path}/a.db"]
    (tmp_path / "a.db").touch()
    for argv, code in ((["keys", *named], 2), (["keys", "--json", *named], 0)):
        run = f"{hide} sys.exit(main({argv!r}))"
        done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code
        assert ("pip install 'headgate[cli]'" in done.stderr) is (code == 2)


def test_each_command_says_its_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("check", "peek", "keys", "top", "reset", "copy", "doctor", "demo", "load"):
        assert main([name, "--help"]) == 0
        assert "Exit codes:" in capsys.readouterr().out

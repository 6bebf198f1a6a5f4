"""What the demo's tests share: a fleet that runs, and two ways to run the command."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.demo.fleet import Fleet
from tests.demo.running import Done, Run, command, running_fleet


@pytest.fixture(scope="session")
def fleet(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances in front of the suite's server. Tests keep apart by their users."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), valkey_url) as fleet:
        yield fleet


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory; processes started from here can be told by their environment."""
    place = tmp_path / "place with spaces"
    place.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    return place


@pytest.fixture
def headgate(place: Path) -> Run:
    """Run `headgate ...` as a process."""

    def run(*arguments: str) -> Done:
        return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def headgate_here(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `headgate ...` in this process, which is quicker: for actions that start nothing."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main(arguments)
        written = capsys.readouterr()
        return Done(list(arguments), code, written.out, written.err)

    return run

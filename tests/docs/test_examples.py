"""Every example runs to its end, on memory and on a real server, and says something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT

APPS = sorted((ROOT / "examples").glob("*_app.py"))
"""Web apps serve for ever: `test_web_examples.py` calls them over HTTP."""
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path not in APPS]
RUNNER = Path(__file__).with_name("run_patiently.py")
PATIENCE = 90


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("store", ["memory", "server"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, store: str, request: pytest.FixtureRequest) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "POSTGRES_URL")}
    environment["GRPC_VERBOSITY"] = "ERROR"  # its core says now and then that a server has ended
    if store == "server":
        environment["REDIS_URL"] = request.getfixturevalue("valkey_url")
        if "POSTGRES_URL" in example.read_text(encoding="utf-8"):
            environment["POSTGRES_URL"] = request.getfixturevalue("postgres_url")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(example)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stderr.strip()


@pytest.mark.parametrize("example", [*EXAMPLES, *APPS], ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    most = 80 if example.stem == "file_store" else 60  # a whole store
    assert len(example.read_text(encoding="utf-8").splitlines()) <= most

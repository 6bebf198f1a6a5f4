"""The Python in README and docs runs, and prints what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks, pages
from tests.docs.run_blocks import NATS_URL, POSTGRES_URL

PATIENCE = 60
ASYNCIO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")

with_python = [page for page in pages() if any(block.language == "python" for block in blocks(page))]
with_tests = [page for page in with_python if any("pytest" in block.words for block in blocks(page))]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_is_something_to_run() -> None:
    assert {"README.md", "docs/groups.md"} <= {named(page) for page in with_python}


@pytest.mark.parametrize("page", with_python, ids=named)
def test_blocks_run_and_print_what_they_say(
    page: Path, valkey_url: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    asks_postgres = POSTGRES_URL in page.read_text(encoding="utf-8")
    postgres_url = request.getfixturevalue("postgres_url") if asks_postgres else POSTGRES_URL
    asks_nats = NATS_URL in page.read_text(encoding="utf-8")
    nats_url = request.getfixturevalue("nats_url") if asks_nats else NATS_URL
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.docs.run_blocks", str(page)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "HEADGATE_DOCS_URL": valkey_url,
            "HEADGATE_DOCS_POSTGRES_URL": postgres_url,
            "HEADGATE_DOCS_NATS_URL": nats_url,
            "HEADGATE_DOCS_PREFIX": prefix,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", with_tests, ids=named)
def test_blocks_that_are_tests_pass(page: Path, tmp_path: Path) -> None:
    wanted = 0
    for block in blocks(page):
        if block.language == "python" and "pytest" in block.words:
            (tmp_path / f"test_line_{block.line}.py").write_text(block.code, encoding="utf-8")
            wanted += 1
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ASYNCIO, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert wanted > 0


def test_few_blocks_are_not_run() -> None:
    skipped = [
        f"{named(page)}:{block.line}"
        for page in with_python
        for block in blocks(page)
        if block.language == "python" and "no-run" in block.words
    ]
    assert len(skipped) <= 4, skipped

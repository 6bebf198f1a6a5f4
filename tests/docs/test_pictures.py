"""The numbers that the page of a picture quotes are those of today, and terminals are recorded as they are."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.docs.markdown import ROOT


def test_the_page_quotes_what_the_script_prints(tmp_path: Path) -> None:
    picture = tmp_path / "algorithms.svg"
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/draw_algorithms.py"), "--to", str(picture)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    page = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8")
    assert done.stdout.strip() in page
    assert picture.stat().st_size < 300_000


@pytest.fixture(scope="module")
def recorder() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/record_terminals.py"))


def words(picture: Path) -> str:
    """The text of a picture, with plain spaces."""
    texts = [element for element in ET.parse(picture).iter() if element.tag.endswith("}text")]
    return "".join((text.text or "").replace("\xa0", " ") for text in texts)


def test_a_recording_is_what_a_command_shows_on_a_terminal(recorder: dict[str, Any], tmp_path: Path) -> None:
    program = (
        "import os, sys; print(os.get_terminal_size().columns, sys.stdout.isatty(), '\\x1b[31mred\\x1b[0m', 'grün <&')"
    )
    screen = recorder["run"]([sys.executable, "-c", program], 72, tmp_path)
    recorder["draw"]("print things", screen, tmp_path / "it.svg")
    assert words(tmp_path / "it.svg").splitlines() == ["$ print things", "72 True red grün <&"]
    drawn = (tmp_path / "it.svg").read_text(encoding="utf-8")
    assert "#ff7b72" in drawn
    assert "url(" not in drawn.replace("url(#", "")


def test_a_command_that_fails_is_not_recorded(recorder: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="it is broken"):
        recorder["run"]([sys.executable, "-c", "raise SystemExit('it is broken')"], 72, tmp_path)


def test_the_keys_are_recorded_from_a_real_store(recorder: dict[str, Any], tmp_path: Path) -> None:
    recorder["record_keys"](tmp_path)
    assert "mallory" in words(tmp_path / "terminal-keys.svg")
    assert "blocked for" in words(tmp_path / "terminal-keys.svg")


@pytest.mark.parametrize("name", ["demo", "keys"])
def test_a_recording_is_in_the_docs(name: str) -> None:
    picture = ROOT / f"docs/terminal-{name}.svg"
    assert f"headgate {name}" in words(picture) or f"make {name}" in words(picture)
    assert picture.stat().st_size < 100_000

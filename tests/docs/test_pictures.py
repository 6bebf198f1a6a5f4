"""The picture's numbers, as its page quotes them, are what the library does today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

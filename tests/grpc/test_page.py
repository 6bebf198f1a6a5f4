"""The table of docs/grpc.md has rows that are tests."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "grpc.md").read_text("utf-8")


def test_each_row_is_a_test() -> None:
    tests = {name for file in HERE.glob("test_*.py") for name in re.findall(r"def test_(\w+)", file.read_text("utf-8"))}
    table = PAGE.partition("Each row is a test")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    named = [row for row in rows if not row.startswith("**")]
    assert len(named) > 25
    assert [row for row in named if row.lower().replace(" ", "_") not in tests] == []

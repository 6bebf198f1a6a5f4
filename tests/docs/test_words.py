"""The pages use one word for one thing, and show the house as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import headgate
from tests.docs.markdown import ROOT, pages, prose

GLOSSARY = ROOT / "docs/glossary.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
WRITTEN = [page for page in pages() if "decisions" not in page.parts]
"""Decisions stay as they were written."""
RETIRED = re.compile(
    r"\b(riders?|fares?|lone|errands?|diallers?|twins?|aboard|elsewhere|travel(s|led|ling)?|(?<!round )trips?)\b",
    re.IGNORECASE,
)
"""What waiters, single hits, routed groups, connectors, counterparts and round trips were called before."""


def words() -> list[str]:
    return re.findall(r"^\| ([a-z ]+) \| (?!meaning)", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_glossary_is_short_and_says_each_word_once() -> None:
    assert 20 <= len(words()) <= 30
    assert len(set(words())) == len(words())


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_the_words_of_the_glossary(page: Path) -> None:
    text = re.sub(r"round\s+trip", "round trip", prose(page))
    assert [found[0] for found in RETIRED.finditer(text)] == []


def test_every_room_of_the_house_is_on_its_page() -> None:
    source = Path(headgate.__file__).parent
    rooms = {path.stem for path in source.glob("*.py")} | {path.parent.name for path in source.glob("*/__init__.py")}
    shown = set(re.findall(r"`(\w+)(?:\.py|/)`", ARCHITECTURE.read_text(encoding="utf-8")))
    assert rooms - shown == set()

"""What a Markdown file holds, as far as tests care: its fenced code, its links and its headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)|<img[^>]*src=\"(?P<source>[^\"]+)\"")
_HEADING = re.compile(r"^#+ +(?P<text>.*?)\s*$", re.MULTILINE)


class Block(NamedTuple):
    """Fenced code: where it begins, its language, and the words behind that."""

    line: int
    language: str
    words: tuple[str, ...]
    code: str


def pages() -> list[Path]:
    """The Markdown files of the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


def blocks(page: Path) -> Iterator[Block]:
    """The fenced code of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language, *words = found["info"].split() or [""]
        yield Block(text.count("\n", 0, found.start("code")) + 1, language, tuple(words), found["code"])


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Where a page links to."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [found["target"] or found["source"] for found in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """The fragments that a page can be linked to by: its headings, as GitHub writes them."""
    made: set[str] = set()
    for found in _HEADING.finditer(prose(page)):
        base = re.sub(r"[^\w\- ]", "", found["text"].replace("`", "").lower()).replace(" ", "-")
        anchor, number = base, 0
        while anchor in made:
            number += 1
            anchor = f"{base}-{number}"
        made.add(anchor)
    return made

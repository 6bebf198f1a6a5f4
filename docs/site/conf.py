"""How Sphinx makes a site of the repository's Markdown: `make docs`.

The pages are those that GitHub shows, and stay plain Markdown. What is the site's own is made here: which files are
pages, and the sidebar, which has the sections of `docs/README.md`. A file of code that a page links to is a page too.
Knows nothing of headgate."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
START: Final = ROOT / "README.md"
INDEX: Final = ROOT / "docs/README.md"
CODE: Final = {".py": "python", ".json": "json", ".yml": "yaml", ".toml": "toml"}
"""The suffixes of files that are shown as code, and in which language."""

_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<path>[^)\s#:]+)(?:#[^)\s]*)?\)")
_SECTION = re.compile(r"^## +(?P<caption>.+)\n(?P<body>(?:(?!## ).*\n?)*)", re.MULTILINE)
_ITEM = re.compile(r"^(?:-|\d+\.) +(?P<head>\[[^]]*\]\([^:]*?)(?:$|:)", re.MULTILINE)


def written() -> list[Path]:
    """The pages in Markdown."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def linked(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for found in _LINK.finditer(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / found["path"]).resolve()
        if target.is_file() and target.is_relative_to(ROOT):
            yield target


def sections(text: str) -> dict[str, list[str]]:
    """What the lists of a page lead to, by its headings: the links that an item begins with, up to a colon."""
    found = {}
    for section in _SECTION.finditer(text):
        paths = [link["path"] for item in _ITEM.finditer(section["body"]) for link in _LINK.finditer(item["head"])]
        if paths:
            found[section["caption"]] = paths
    return found


def toctree(paths: list[str], caption: str = "") -> str:
    """The directive by which Sphinx puts pages into the sidebar, and shows nothing in the text."""
    head = f":caption: {caption}\n" if caption else ""
    return f"\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n{head}\n" + "\n".join(paths) + "\n```\n"


def sidebar() -> str:
    """All pages, in the order of `docs/README.md`; then those that are neither there nor below another page."""
    captioned = sections(INDEX.read_text(encoding="utf-8"))
    known = {START, *listed(), *(page for index in written() for page in below(index))}
    others = [page for page in written() if page not in known]
    trees = [toctree([f"/docs/{path}" for path in paths], caption) for caption, paths in captioned.items()]
    return "".join(trees) + toctree([f"/{page.relative_to(ROOT)}" for page in others], "The project")


def listed() -> set[Path]:
    """The pages that `docs/README.md` lists."""
    captioned = sections(INDEX.read_text(encoding="utf-8"))
    return {(INDEX.parent / path).resolve() for paths in captioned.values() for path in paths}


def below(index: Path) -> list[Path]:
    """The pages that are below this one in the sidebar: below the README of a folder in docs/, the others there."""
    if index.name != "README.md" or index.parent.parent != INDEX.parent:
        return []
    return [page for page in written() if page.parent == index.parent and page not in {index, *listed()}]


def read(_app: Any, name: str, source: list[str]) -> None:
    """Make Markdown of a file of code, and put the sidebar's trees behind the page that they belong to."""
    path = next(path for path in shown if path.relative_to(ROOT).with_suffix("").as_posix() == name)
    if path.suffix in CODE:
        # The fence is longer than any in the code.
        fence = "`" * 10
        source[0] = f"---\norphan: true\n---\n# {path.name}\n\n{fence}{CODE[path.suffix]}\n{source[0]}\n{fence}\n"
    elif path == START:
        source[0] += sidebar()
    elif pages := below(path):
        source[0] += toctree([page.name for page in pages])


def name_index(app: Any, error: Exception | None) -> None:
    """The start page is what a server answers for a folder."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / f"{START.stem}.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("build-finished", name_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


shown: Final = sorted({*written(), *(file for page in written() for file in linked(page) if file.suffix in CODE)})

# Sphinx reads these.
project = "headgate"
html_title = "headgate"
extensions = ["myst_parser"]
root_doc = START.stem
source_suffix = dict.fromkeys((".md", *CODE), "markdown")
include_patterns = [path.relative_to(ROOT).as_posix() for path in shown]
exclude_patterns = [".*", "build", "dist"]
myst_heading_anchors = 4
html_theme = "furo"
html_favicon = "icon.svg"
html_copy_source = False
html_use_index = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

"""The site of the documentation has all pages, and the check of it in a browser sees what is wrong.

`make docs-check` builds the whole site and opens each page; here are small ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.docs.browse import check
from tests.docs.markdown import ROOT, pages
from tests.parts import program

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>t</title><link rel="icon" href="data:,"></head>
<body><h1 id="top">t</h1>{}</body></html>"""


@pytest.fixture(scope="module")
def conf() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/site/conf.py"))


def test_each_page_is_in_the_sidebar_once(conf: dict[str, Any]) -> None:
    lines = [line for line in conf["sidebar"]().splitlines() if line.endswith(".md")]
    shown = [(ROOT / line.removeprefix("/")).resolve() for line in lines]
    shown += [page for index in pages() for page in conf["below"](index)]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(pages()) - {ROOT / "README.md"}


def test_decisions_are_below_their_list(conf: dict[str, Any]) -> None:
    assert ROOT / "docs/decisions/0001-integers-and-gcra.md" in conf["below"](ROOT / "docs/decisions/README.md")


def test_the_sidebar_has_what_lists_lead_to_before_their_colons(conf: dict[str, Any]) -> None:
    text = (
        "# Start\n\n- [before](a.md)\n\n## One\n\n- [b](b.md) and [c](c.md#part): see [d](d.md)\n- **for**: [e](e.md)\n"
        "\n## Two\n\nno list\n\n## Three\n\n1. [f](f.md)\n"
    )
    assert conf["sections"](text) == {"One": ["b.md", "c.md"], "Three": ["f.md"]}


def test_what_pages_link_to_is_on_the_site(conf: dict[str, Any]) -> None:
    assert {ROOT / "examples/fastapi_app.py", ROOT / "docs/headgate.schema.json"} <= set(conf["shown"])


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.stem)
def test_each_example_is_on_their_page(example: Path, conf: dict[str, Any]) -> None:
    assert example in set(conf["linked"](ROOT / "examples/README.md"))


def test_the_check_in_a_browser_finds_nothing_wrong_where_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format('<a href="next.html#top">on</a><img src="icon.svg">'))
    (tmp_path / "next.html").write_text(
        PAGE.format('<a href="index.html">back</a><a href="https://example.org/">x</a>')
    )
    (tmp_path / "icon.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
    assert check(tmp_path, program("chromium")) == []


def test_the_check_in_a_browser_says_all_that_is_wrong(tmp_path: Path) -> None:
    wrong = [
        '<a href="nowhere.html">a</a><a href="#nothing">b</a><img src="none.png">',
        "<script>console.error('it is broken')</script><script>throw new Error('and this')</script>",
        '<script src="http://127.0.0.2:9/x.js"></script>',
    ]
    (tmp_path / "index.html").write_text(PAGE.format("".join(wrong)))
    (tmp_path / "alone.html").write_text(PAGE.format(""))
    (tmp_path / "search.html").write_text(PAGE.format('<div id="search-results"></div>'))
    found = "\n".join(check(tmp_path, program("chromium"), "words", "index.html", patience_ms=200))
    for problem in (
        "index.html: a link leads nowhere: nowhere.html",
        "index.html: a link leads to no such heading: index.html#nothing",
        "index.html: a picture is not shown: ",
        "index.html: console: it is broken",
        "index.html: script: and this",
        "index.html: leaves the machine: http://127.0.0.2:9/x.js",
        "alone.html: no link leads there",
        "search.html: a search for 'words' does not find index.html",
    ):
        assert problem in found

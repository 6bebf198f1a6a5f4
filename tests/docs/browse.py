"""Open each page of a built site in a real browser, and say what is wrong: `python -m tests.docs.browse FOLDER`.

The folder is served from 127.0.0.1, and Chromium opens all its pages. Wrong is: an error on the console, a request that
fails or leaves the machine, a link or a picture that leads nowhere, a page that no link leads to, and a search that
does not find what is there. Knows neither headgate nor the generator, but for the search page's name."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urldefrag

from playwright.sync_api import BrowserContext, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

LOOK = """() => ({
    links: [...document.querySelectorAll("a[href], form")].map(element => element.href || element.action),
    pictures: [...document.images].map(image => [image.src, image.naturalWidth]),
    fragments: [...document.querySelectorAll("[id], a[name]")].map(element => element.id || element.name),
})"""
"""What a page shows, asked in the page itself."""


class Page(NamedTuple):
    """One page as the browser shows it."""

    links: list[str]
    fragments: set[str]
    problems: list[str]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that the library gives it
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(program: Path) -> Iterator[BrowserContext]:
    """A browser without a window."""
    # Chromium's sandbox needs a user that is not root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser.new_context()
        finally:
            browser.close()


def visit(browser: BrowserContext, root: str, url: str) -> Page:
    """Open one page."""
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda said: problems.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((root, "data:")) else problems.append(f"leaves the machine: {request.url}")
        ),
    )
    try:
        answer = page.goto(url, wait_until="load")
        if answer is None or not answer.ok:
            problems.append("is not there")
        shown: Any = page.evaluate(LOOK)
    finally:
        page.close()
    problems += [f"a picture is not shown: {source}" for source, width in shown["pictures"] if width == 0]
    return Page(shown["links"], set(shown["fragments"]), problems)


def check(folder: Path, program: Path, words: str = "", expected: str = "", patience_ms: int = 15_000) -> list[str]:
    """Open all pages of the folder; with `words`, search for them too, and expect this page among what is found."""
    with served(folder) as root, chromium(program) as browser:
        urls = {root + quote(path.relative_to(folder).as_posix()) for path in folder.rglob("*.html")}
        pages = {url: visit(browser, root, url) for url in sorted(urls)}
        found = [f"{name(root, url)}: {problem}" for url, page in pages.items() for problem in page.problems]
        found += broken(folder, root, pages)
        found += unreached(root, pages)
        if words and not finds(browser, f"{root}search.html?q={quote(words)}", expected, patience_ms):
            found.append(f"search.html: a search for {words!r} does not find {expected}")
    return found


def broken(folder: Path, root: str, pages: dict[str, Page]) -> Iterator[str]:
    """The links that lead nowhere, of those that stay on the site."""
    for url, page in pages.items():
        for link in sorted(set(page.links)):
            if not link.startswith(root):
                continue
            target, fragment = urldefrag(link)
            target = target + "index.html" if target.endswith("/") else target
            if not (folder / unquote(target.removeprefix(root))).is_file():
                yield f"{name(root, url)}: a link leads nowhere: {name(root, link)}"
            elif fragment and target in pages and unquote(fragment) not in pages[target].fragments:
                yield f"{name(root, url)}: a link leads to no such heading: {name(root, link)}"


def unreached(root: str, pages: dict[str, Page]) -> Iterator[str]:
    """The pages that cannot be come to from the start page."""
    seen, ahead = set(), [f"{root}index.html"]
    while ahead:
        url = ahead.pop()
        if url in pages and url not in seen:
            seen.add(url)
            ahead += [urldefrag(link).url for link in pages[url].links]
    yield from (f"{name(root, url)}: no link leads there" for url in pages if url not in seen)


def finds(browser: BrowserContext, url: str, expected: str, patience_ms: int) -> bool:
    """Is this page among the results of a search, which the browser makes by itself?"""
    page = browser.new_page()
    try:
        page.goto(url)
        page.wait_for_selector(f"#search-results a[href*='{expected}']", timeout=patience_ms)
    except PlaywrightTimeout:
        return False
    else:
        return True
    finally:
        page.close()


def name(root: str, url: str) -> str:
    return unquote(url.removeprefix(root))


def main() -> int:
    parser = argparse.ArgumentParser(description="Open each page of a built site in Chromium.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--search", default="", metavar="WORDS")
    parser.add_argument("--finds", default="", metavar="PAGE")
    arguments = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        print("There is no chromium here: `make servers` installs it.", file=sys.stderr)
        return 2
    found = check(arguments.folder.resolve(), Path(program), arguments.search, arguments.finds)
    print(*found, sep="\n", end="\n" if found else "")
    count = len(list(arguments.folder.rglob("*.html")))
    print(f"{count} pages opened, {'all is well' if not found else f'{len(found)} things are wrong'}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

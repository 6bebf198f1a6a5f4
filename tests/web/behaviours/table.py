"""The table of frameworks and behaviours, and the page that it stands on."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.web.behaviours.serving import FRAMEWORKS, ROOT
from tests.web.behaviours.suite import SECTIONS, Behaviour, everything

PAGE: Final[Path] = ROOT / "docs/frameworks.md"

_INTRODUCTION: Final = """\
# Frameworks: what holds in each

Every framework has the same rules, and the same core decides. One suite of HTTP behaviours holds them to it: the same
app, built in the way of each framework, is asked over HTTP, behind a real server (uvicorn, or gunicorn).
Its limits are decorators in Starlette, Flask, Django, django-ninja (Ninja), aiohttp and Litestar, dependencies in
FastAPI, throttles in REST framework (DRF), and rules by path where there is no framework, and in Quart, Sanic and
Falcon.

`make web-behaviours` asks anew, and prints this table.
"""


class Outcome(enum.Enum):
    """What came of a behaviour in a framework."""

    HOLDS = "✓"
    LACKS = "–"
    FAILS = "✗"


Outcomes = Mapping[tuple[str, str], Outcome]
"""The outcomes by framework and title."""


def expected() -> dict[tuple[str, str], Outcome]:
    """What the suite holds the frameworks to."""
    return {
        (framework, one.title): Outcome.LACKS if framework in one.lacks else Outcome.HOLDS
        for one in everything()
        for framework in FRAMEWORKS
    }


def table(outcomes: Outcomes) -> str:
    """The table, in Markdown."""
    rows = sorted(everything(), key=_place_of_section)
    lines = [f"| | {' | '.join(FRAMEWORKS)} |", f"| --- |{' :-: |' * len(FRAMEWORKS)}"]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            lines.append(f"| **{section}** |{' |' * len(FRAMEWORKS)}")
        cells = [outcomes[framework, row.title].value for framework in FRAMEWORKS]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def notes() -> str:
    """Why some do not have what others have."""
    found = []
    for row in everything():
        reasons: dict[str, list[str]] = {}
        for framework, reason in row.lacks.items():
            reasons.setdefault(reason, []).append(framework)
        found += [f"- {' and '.join(those)}, {row.title}: {reason}." for reason, those in reasons.items()]
    lines = [textwrap.fill(one, 120, subsequent_indent="  ", break_on_hyphens=False) for one in found]
    return "Where a cell is a dash:\n\n" + "\n".join(lines)


def page(outcomes: Outcomes) -> str:
    """The page."""
    return f"{_INTRODUCTION}\n{table(outcomes)}\n\n{notes()}\n"


def _place_of_section(row: Behaviour) -> int:
    return SECTIONS.index(row.section)

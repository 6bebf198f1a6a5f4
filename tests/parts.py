"""Parts that no wheel has, which tests need: programs of the system's packages, by `make servers`.

Where one is missing, the tests that need it are not run, and the run ends by naming them and saying why. With
`HEADGATE_TEST_ALL=1`, as continuous integration sets it, they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

_REASON = re.compile(r"""Skipped: (.*) is missing: (.*)['"]\)$""")


def program(name: str, *folders: str) -> Path:
    """Find a program on the PATH, or in folders where packages put it."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        lacks(name)
    return Path(found)


def lacks(part: str, remedy: str = "`make servers` installs it") -> NoReturn:
    """Leave out this test, whose part is missing; or have it fail, if all parts are to be there."""
    if os.environ.get("HEADGATE_TEST_ALL") == "1":
        pytest.fail(f"{part} is missing, and HEADGATE_TEST_ALL is set: {remedy}")
    pytest.skip(f"{part} is missing: {remedy}")


def not_run(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """Say for want of which parts tests were not run, and how many, by the reports of all processes that ran some."""
    counts: Counter[tuple[str, str]] = Counter()
    for report in skipped:
        reason = _REASON.search(str(report.longrepr))
        if reason:
            counts[reason[1], reason[2]] += 1
    return [
        f"NOT RUN: {count} {'test needs' if count == 1 else 'tests need'} {part}: {remedy}"
        for (part, remedy), count in sorted(counts.items())
    ]

"""Parts that no wheel has, which tests need: programs of the system's packages, by `make servers`.

Where one is missing, the tests that need it are not run, and the run ends by naming them and saying why. With
`HEADGATE_TEST_ALL=1`, as continuous integration sets it, they fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

missing: set[tuple[str, str]] = set()
"""The parts that were missing, each with its remedy."""


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
    missing.add((part, remedy))
    pytest.skip(f"{part} is missing: {remedy}")


def not_run(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """Say for want of which parts tests were not run, and how many. One fixture may have spoken for many of them."""
    reasons = Counter(str(report.longrepr) for report in skipped)
    lines = []
    for part, remedy in sorted(missing):
        count = sum(number for reason, number in reasons.items() if f"{part} is missing: {remedy}" in reason)
        lines.append(f"NOT RUN: {count} {'test needs' if count == 1 else 'tests need'} {part}: {remedy}")
    return lines

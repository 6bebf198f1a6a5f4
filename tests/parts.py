"""Parts that no wheel has, which tests need: programs of the system's packages, by `make servers`.

Where one is missing, the tests that need it are not run, and the run ends by naming them and saying why. With
`HEADGATE_TEST_ALL=1`, as continuous integration sets it, they fail instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

missing: dict[tuple[str, str], int] = {}
"""By part and remedy, how many tests were not run for want of it."""


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
    missing[part, remedy] = missing.get((part, remedy), 0) + 1
    pytest.skip(f"{part} is missing: {remedy}")

"""What the command's tests share: the demo's instances as a target."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headgate.demo.fleet import Fleet
from tests.demo.running import running_fleet


@pytest.fixture(scope="session")
def fleet(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances in front of the suite's server, 10/minute for each user."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), valkey_url) as fleet:
        yield fleet

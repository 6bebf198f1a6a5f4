"""What the command's tests share: a store of each kind, and the demo's instances as a target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.demo.fleet import Fleet
from tests.cli.stored import ALL_KINDS, url_of
from tests.demo.running import running_fleet


@pytest.fixture(scope="session")
def fleet(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances in front of the suite's server, 10/minute for each user."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), valkey_url) as fleet:
        yield fleet


@pytest.fixture(params=ALL_KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind is that processes share."""
    return url_of(request, request.param, tmp_path / "limits.db")

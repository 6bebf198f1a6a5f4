"""The example of a store, in a plain file, keeps the promises of a store; also between processes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headgate import Limiter, ManualClock
from headgate.errors import StoreOutage
from headgate.stores import Group, Hit, Store
from headgate.testing import StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples/file_store.py"
SPENDS = """
from headgate import Limiter
from file_store import FileStore
import sys
limiter = Limiter("100/day", store=FileStore(sys.argv[1]), name="n", on_outage="raise")
print(sum(limiter.try_acquire("k").allowed for _ in range(60)))
"""


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("file_store", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


file_store: Any = _example()


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock) -> Store:
        made: Store = file_store.FileStore(tmp_path / "limits.json", clock)
        return made


def test_processes_together_get_exactly_what_the_limit_says(tmp_path: Path) -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDS, str(tmp_path / "limits.json")],
            cwd=EXAMPLE.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert sum(int(process.communicate(timeout=60)[0]) for process in asking) == 100


def test_what_cannot_be_read_is_an_outage(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text("{")
    store: Store = file_store.FileStore(path)
    limiter = Limiter("1/minute", store=store, on_outage="raise")
    with pytest.raises(StoreOutage, match=r"limits\.json"):
        limiter.try_acquire("k")


def test_a_call_within_a_call_is_an_outage_and_not_a_deadlock(tmp_path: Path) -> None:
    group = Group((Hit(Limiter("1/minute").limits["1/minute"], "k", "n"),))

    def interrupted() -> int:
        with pytest.raises(StoreOutage, match="in use by the call that was interrupted"):
            store.decide([group])
        return 1_000_000

    store: Store = file_store.FileStore(tmp_path / "limits.json", interrupted)
    assert store.decide([group])[0]


def test_what_is_over_is_dropped(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "limits.json"
    limiter = Limiter("1/minute", store=file_store.FileStore(path, clock))
    limiter.try_acquire("k")
    assert path.read_text() != "{}"
    clock.advance(seconds=60)
    limiter.peek("another")
    assert path.read_text() == "{}"

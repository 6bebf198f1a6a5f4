"""Forks without Python's hooks, as uWSGI makes them where nothing else is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import OwnValkey, own_valkey

FORKED = """
import ctypes, os, sys, types
uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")
told = []
uwsgi.post_fork_hook = lambda: told.append("an app's own hook")
from headgate import Limiter
limiter = Limiter("100000/day", store=sys.argv[1], name="n", on_outage="raise", timeout=20)
assert limiter.try_acquire("k").remaining == 99_999
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    try:
        uwsgi.post_fork_hook()
        assert told == ["an app's own hook"]
        assert [limiter.try_acquire("child").remaining for _ in range(300)] == list(range(99_999, 99_699, -1))
        limiter.try_acquire("k")
    except BaseException as error:
        print(repr(error)[:200], file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
assert [limiter.try_acquire("parent").remaining for _ in range(600)] == list(range(99_999, 99_399, -1))
assert os.waitpid(pid, 0)[1] == 0
assert not told
assert limiter.try_acquire("k").remaining == 99_997
"""


@pytest.fixture(scope="module")
def own() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_workers_of_uwsgi_count_together_and_share_nothing(store: str, own: OwnValkey, tmp_path: Path) -> None:
    url = own.url if store == "redis" else f"sqlite:///{tmp_path}/limits.db"
    done = subprocess.run([sys.executable, "-c", FORKED, url], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")

"""A store that nobody closes: dropped, or left when the interpreter ends, it closes what it has opened, and warns of
nothing. Of SQLite's connections, Python warns from 3.13 on. Not of NATS: its connections live in the event loop of a
thread, which ends with the interpreter, and whatever asyncio has to warn of.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import ALL_KINDS, url_of

ASKING = """
import gc
import sys
from headgate import Limiter
from headgate.stores.registry import open_store

url, prefix, end = sys.argv[1:]

def asked():
    limiter = Limiter("5/hour", store=open_store(url, prefix=prefix, timeout=10), name="api", on_outage="raise")
    limiter.try_acquire("k")
    return limiter

if end == "left":
    left = asked()
else:
    for _ in range(4):
        dropped = [asked() for _ in range(2)]
        dropped[0].beside = dropped  # so that the collector finds all of it at once, in an order of its own
        gc.collect(1)
        del dropped
    gc.collect()
"""


@pytest.mark.parametrize("end", ["dropped", "left"])
@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "NATS"])
def test_nothing_is_warned_of(kind: str, end: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = url_of(request, kind, tmp_path / "limits.db")
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", ASKING, url, prefix, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""Running the `headgate` command as its user would, and a fleet of the demo's for tests that ask it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate.demo.fleet import Fleet, land, launch

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def command(*arguments: str) -> list[str]:
    """The command line of `headgate ...`."""
    return [sys.executable, "-P", "-m", "headgate.cli", *arguments]


@contextmanager
def running_fleet(folder: Path, store: str) -> Iterator[Fleet]:
    """Three instances in front of a store."""
    with asyncio.Runner() as runner:
        fleet = runner.run(launch(folder, store=store))
        try:
            yield fleet
        finally:
            runner.run(land(fleet))


def left_running() -> list[str]:
    """The commands of processes that this test started.

    Told by the environment, which has a TMPDIR of the test's own, or (Valkey overwrites that) by the current directory.
    """
    mark = os.environ["TMPDIR"]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"TMPDIR={mark}".encode() in (process / "environ").read_bytes().split(b"\0")
            inside = (process / "cwd").readlink().is_relative_to(Path(mark).parent)
            if int(process.name) != os.getpid() and (marked or inside):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found

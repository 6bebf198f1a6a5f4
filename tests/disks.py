"""A disk so small that it is soon full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.parts import lacks


@contextmanager
def small_disk(folder: Path, owner: tuple[str, str] | None = None) -> Iterator[Path]:
    """A disk of two megabytes, for as long as the block, whose user and group may be others."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    program = shutil.which("mount")
    if program is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        lacks("the right to mount a small disk", "run the tests as root, on Linux")
    try:
        if owner is not None:
            shutil.chown(folder, *owner)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Callable[[], None]:
    """Leave no room on a disk. Returns what makes room again."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4_096)):
            pass
    return ballast.unlink

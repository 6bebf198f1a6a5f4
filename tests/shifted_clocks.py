"""A real server whose clock can be moved: its calls for the time go through a few lines of C (shifted_clock.c)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts import program
from tests.servers import OwnValkey, eventually, own_valkey

HOUR_S = 3_600
SOURCE = Path(__file__).with_name("shifted_clock.c")


class Shifted:
    """A server, and what moves its clock."""

    def __init__(self, server: OwnValkey, told: Path) -> None:
        self.server = server
        self._told = told
        self._shift_us = 0

    def move(self, by_s: float) -> None:
        """Move its clock, and wait until it has seen that: it reads its clock ten times a second."""
        self._shift_us += int(by_s * 1_000_000)
        with self._told.open("r+b") as file:
            file.write(self._shift_us.to_bytes(8, "little", signed=True))
        with self.server.admin() as admin:

            def is_read() -> bool:
                ahead_s: float = admin.time()[0] - time.time()
                return abs(ahead_s - self._shift_us / 1e6) < HOUR_S / 10

            eventually(is_read, "the server has seen it")


@contextmanager
def shifted_valkey(folder: Path) -> Iterator[Shifted]:
    """A server whose clock can be moved, with what it takes in a folder."""
    library, told = folder / "shifted_clock.so", folder / "shift"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    told.write_bytes(bytes(8))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LD_PRELOAD", str(library))
        patched.setenv("HEADGATE_CLOCK", str(told))
        with own_valkey() as valkey:
            patched.undo()
            yield Shifted(valkey, told)

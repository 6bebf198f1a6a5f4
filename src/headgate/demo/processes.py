"""Starting child processes, recognising them later, and ending exactly those.

A process id alone says nothing after a while: ids are used again. So each process is remembered with
the moment of its birth, and a process whose birth differs is somebody else's. This module knows nothing
of what the processes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.02
PATIENCE = 5.0


@dataclass(frozen=True)
class Process:
    """A process we started: in this run, or in an earlier one that left its record behind."""

    name: str
    pid: int
    birth: str
    handle: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def alive(self) -> bool:
        """Whether it still runs, and is still the one that we started."""
        if self.handle is not None:
            return self.handle.poll() is None
        return birth_of(self.pid) == self.birth


def birth_of(pid: int) -> str | None:
    """Say when a process was born, in a form that no later process repeats; None if it does not run.

    A zombie does not run. Where nobody collects orphans, as in many containers, they stay for good.
    """
    if Path("/proc/self/stat").exists():
        try:
            # The command's name stands in parentheses and may itself hold spaces and parentheses.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in "ZX":
            return None
        return f"{boot_id()}:{fields[19]}"
    return birth_by_ps(pid)


def birth_by_ps(pid: int) -> str | None:
    """Say the same where there is no /proc, as on macOS, to the second."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()  # noqa: S603 - a number and no shell
    if not answer or answer[0].startswith("Z"):
        return None
    return " ".join(answer[1:])


def boot_id() -> str:
    """Tell this boot of the machine from others, since the kernel counts births from its own start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def spawn(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a process with its output in a file, out of reach of the terminal's Ctrl-C. Its `cwd` is made."""
    if cwd is not None:
        cwd.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        handle = subprocess.Popen(  # noqa: S603 - our own commands, and no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ) if environ is not None else None,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    return Process(name, handle.pid, birth_of(handle.pid) or "gone", handle)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Signal a process if it still runs and is still ours."""
    if process.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def stop(processes: Iterable[Process], patience: float = PATIENCE) -> list[Process]:
    """End processes: ask, wait, insist. Gives back those that were running."""
    running = [process for process in processes if process.alive]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            send_signal(process, number)
        deadline = time.monotonic() + patience
        while any(process.alive for process in running):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL)
    return running


def last_lines(path: Path, count: int = 15, end: int | None = None) -> list[str]:
    """Read the last lines of a file, or the last before `end`, without reading a long file from its start."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) if end is None else end
            start = file.seek(max(0, size - max(64 * 1024, count * 512)))
            lines = file.read(size - start).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    if start > 0:
        lines = lines[1:]
    return lines[-count:] if count else []

"""Processes are recognised by their birth, and no other process is ever ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.demo.processes import Process, birth_by_ps, birth_of, last_lines, spawn, stop

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    yield from start(WAIT)


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    yield from start(STUBBORN)


def start(program: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child
        child.kill()


def remembered(child: subprocess.Popen[bytes]) -> Process:
    birth = birth_of(child.pid)
    assert birth is not None
    return Process("child", child.pid, birth)


async def test_a_process_of_an_earlier_command_is_recognised_and_ended(child: subprocess.Popen[bytes]) -> None:
    process = remembered(child)

    assert birth_of(process.pid) == process.birth
    assert await stop([process]) == [process]
    assert not process.alive
    assert await stop([process]) == []


async def test_a_process_that_took_over_the_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    another = replace(remembered(child), birth="some other time")

    assert not another.alive
    assert await stop([another]) == []
    assert child.poll() is None


async def test_one_that_does_not_listen_is_ended_all_the_same(stubborn: subprocess.Popen[bytes]) -> None:
    process = remembered(stubborn)
    await stop([process], patience=0.2)

    assert not process.alive
    assert stubborn.wait() == -9


def test_a_zombie_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        birth = birth_of(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it

        assert birth is not None
        assert birth_of(child.pid) is None
        assert not Process("child", child.pid, birth).alive


def test_a_number_that_nobody_has_is_nobody() -> None:
    assert birth_of(2**22 + 1) is None
    assert birth_by_ps(2**22 + 1) is None


@pytest.mark.skipif(
    Path("/proc/self/stat").exists() and shutil.which("ps") is None, reason="here is /proc, and nobody asks ps"
)
def test_where_there_is_no_proc_ps_knows(child: subprocess.Popen[bytes]) -> None:
    assert birth_by_ps(child.pid) == birth_by_ps(child.pid) is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert birth_by_ps(ended.pid) is None


async def test_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    process = spawn("it", [sys.executable, "-c", "print('said')"], log=log, cwd=tmp_path / "new")
    assert process.handle is not None
    process.handle.wait()

    assert not process.alive
    assert last_lines(log) == ["said"]


def test_the_last_lines_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))

    assert last_lines(path, 2) == ["line 49998", "line 49999"]
    assert last_lines(path, 0) == []
    assert len(last_lines(path, 20_000)) == 20_000
    assert last_lines(path, 1, end=14) == ["line 1"]
    assert last_lines(tmp_path / "none.log") == []

"""The demo in the background: each command by itself, and a folder that passes from one to the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from headgate.demo import DemoError, state
from tests.demo.running import Run, command, left_running


@pytest.fixture
def started(place: Path, headgate: Run, headgate_here: Run) -> Iterator[None]:
    done = headgate("demo", "start")
    assert done.returncode == 0, done.stderr
    assert "curl -i -H 'X-User-ID: alice' http://127.0.0.1:" in done.stdout
    yield
    assert headgate_here("demo", "clean").returncode == 0
    assert left_running() == []
    assert list(place.iterdir()) == []


@contextmanager
def streaming(*arguments: str) -> Iterator[Any]:
    """A command that goes on until Ctrl-C; its output."""
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


@pytest.mark.usefixtures("started")
def test_from_start_to_stop(place: Path, headgate_here: Run) -> None:
    health = headgate_here("demo", "health")
    assert health.returncode == 0
    assert health.stdout.count(" up ") == 4

    again = headgate_here("demo", "start", "--limit", "7/minute")
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert "Its limit is 10/minute" in again.stdout
    assert len(left_running()) == 4

    traffic = headgate_here("demo", "traffic")
    assert traffic.returncode == 0
    assert "Exactly 10 of 15 passed" in traffic.stdout

    keys = headgate_here("demo", "keys")
    assert keys.returncode == 0
    for user in ("alice", "bob"):
        assert any(user in line and " string " in line and " s │" in line for line in keys.stdout.splitlines())

    logs = headgate_here("demo", "logs")
    assert logs.returncode == 0
    parts = {line.partition(" | ")[0] for line in logs.stdout.splitlines()}
    assert parts == {"instance-1", "instance-2", "instance-3", "store"}
    logs = headgate_here("demo", "logs", "--instance", "2", "-n", "3")
    assert [json.loads(line)["instance"] for line in logs.stdout.splitlines()] == ["instance-2"] * 3

    piped = f"{' '.join(command('demo', 'logs', '-n', '5000'))} | head -n 1"
    assert subprocess.run(piped, shell=True, capture_output=True, timeout=30, check=False).stderr == b""

    stopped = headgate_here("demo", "stop")
    assert stopped.returncode == 0
    assert "Stopped instance-1, instance-2, instance-3, store." in stopped.stdout
    assert left_running() == []
    assert (place / ".demo" / "instance-1.log").exists()
    assert headgate_here("demo", "stop").returncode == 0

    for action in ("health", "traffic", "keys", "monitor"):
        done = headgate_here("demo", action)
        assert done.returncode == 1
        assert "headgate demo start" in done.stderr


@pytest.mark.usefixtures("started")
def test_what_streams_and_what_breaks(place: Path, headgate: Run, headgate_here: Run) -> None:
    instances = json.loads((place / ".demo" / "state.json").read_text())["instances"]

    with streaming("demo", "monitor") as monitor, streaming("demo", "logs", "--follow") as logs:
        assert "until Ctrl-C" in monitor.readline()
        url = f"http://127.0.0.1:{instances[0]['port']}/api/data"
        with urlopen(Request(url, headers={"X-User-ID": "carol"})) as answer:
            assert answer.status == 200
        assert any("user:carol" in line for line in iter(monitor.readline, ""))
        assert any('"user": "user:carol"' in line for line in iter(logs.readline, ""))
    assert headgate_here("demo", "monitor", "--seconds", "0.1").returncode == 0

    os.kill(instances[1]["process"]["pid"], signal.SIGKILL)

    health = headgate_here("demo", "health")
    assert health.returncode == 1
    assert health.stdout.count(" up ") == 3
    traffic = headgate_here("demo", "traffic")
    assert traffic.returncode == 1
    assert "instance-2 did not answer" in traffic.stderr

    again = headgate("demo", "start")
    assert again.returncode == 0
    assert headgate_here("demo", "health").returncode == 0
    assert len(left_running()) == 4


def test_a_start_that_fails_leaves_nothing_running(headgate: Run, headgate_here: Run) -> None:
    done = headgate("demo", "start", "--store", "gopher://x")

    assert done.returncode == 1
    assert "gopher" in done.stderr
    assert left_running() == []
    assert "not running" in headgate_here("demo", "stop").stdout
    assert headgate_here("demo", "clean").returncode == 0


def test_nothing_started_is_nothing_to_stop(headgate_here: Run, place: Path) -> None:
    assert headgate_here("demo", "stop").returncode == 0
    assert headgate_here("demo", "clean").returncode == 0
    assert headgate_here("demo", "logs").returncode == 1
    assert list(place.iterdir()) == []


def test_a_folder_of_somebody_elses_is_left_alone(headgate_here: Run, place: Path) -> None:
    (place / ".demo").mkdir()
    (place / ".demo" / "thesis.txt").write_text("years of work")
    start, clean = headgate_here("demo", "start"), headgate_here("demo", "clean")

    assert (start.returncode, clean.returncode) == (1, 1)
    assert "in the way" in start.stderr
    assert (place / ".demo" / "thesis.txt").read_text() == "years of work"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".demo"
    state.prepare(folder)
    assert state.load(folder) is None
    for text in ("{", "[]", "{}", '{"version": 2}'):
        (folder / "state.json").write_text(text)
        with pytest.raises(DemoError, match="damaged"):
            state.load(folder)


def test_two_commands_do_not_start_at_once(tmp_path: Path) -> None:
    folder = tmp_path / ".demo"
    state.prepare(folder)
    with state.locked(folder), pytest.raises(DemoError, match="right now"), state.locked(folder):
        pass

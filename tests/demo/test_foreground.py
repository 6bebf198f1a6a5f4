"""`headgate demo`, run as its user runs it: the numbers, the ways it can go wrong, and what it leaves behind."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.demo.running import Run, command, left_running


@pytest.fixture(autouse=True)
def nothing_is_left(place: Path) -> object:
    yield
    assert left_running() == []
    assert list(place.iterdir()) == []
    assert list((place.parent / "tmp").iterdir()) == []


def test_ten_pass_five_are_denied_and_bob_is_unaffected(headgate: Run) -> None:
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # taken already is as good
            taken.enter_context(socket.create_server(("127.0.0.1", 8082)))
        done = headgate("demo")

    assert done.returncode == 0, done.stderr
    assert "Exactly 10 of 15 passed" in done.stdout
    assert "5 were denied (429, Retry-After: " in done.stdout
    assert "bob sent 5 requests to 3 instances: 5 passed, none was denied." in done.stdout
    assert done.stdout.count("alice  asks ") == 15
    assert "127.0.0.1:8082" not in done.stdout
    assert done.stderr == ""


def test_instances_that_share_no_store_are_found_out(headgate_here: Run) -> None:
    done = headgate_here("demo", "run", "--store", "memory://")

    assert done.returncode == 1
    assert "WRONG  alice: 15 requests passed, where 10 should have." in done.stdout


def test_a_store_that_does_not_answer_is_named(headgate_here: Run) -> None:
    done = headgate_here("demo", "run", "--store", "redis://:hidden@127.0.0.1:1/0")

    assert done.returncode == 1
    assert "its store does not answer" in done.stderr
    assert "redis://127.0.0.1:1" in done.stderr
    assert "hidden" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_instance_that_does_not_start_is_told_with_its_last_words(
    headgate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uvicorn.py").write_text("raise SystemExit('no uvicorn today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    done = headgate("demo")

    assert done.returncode == 1
    assert "did not start:\nno uvicorn today" in done.stderr


def test_a_limit_that_is_not_understood_is_wrong_usage(headgate_here: Run) -> None:
    done = headgate_here("demo", "run", "--limit", "10/fortnight")

    assert done.returncode == 2
    assert "10/fortnight\n     ^" in done.stderr


@pytest.mark.parametrize(
    ("number", "sooner"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, True)],
)
def test_a_signal_ends_it_and_all_that_it_started(place: Path, number: signal.Signals, sooner: bool) -> None:
    with subprocess.Popen(command("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        if sooner:  # while it starts
            while len(left_running()) < 3:
                assert demo.poll() is None
        else:  # while it sends
            while "asks" not in demo.stdout.readline():
                assert demo.poll() is None
        demo.send_signal(number)
        demo.send_signal(signal.SIGINT)  # a second one, out of impatience, must not leave anything behind
        _, errors = demo.communicate(timeout=30)

    # Either signal may be the first to arrive.
    assert demo.returncode in (128 + number, 128 + signal.SIGINT)
    assert "Traceback" not in errors

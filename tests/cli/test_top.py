"""`headgate top`: who is being denied, on each kind of store, piped and in a terminal until Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest

from headgate import (
    Concurrency,
    FixedWindow,
    Limit,
    ManualClock,
    MemoryStore,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from headgate.cli.standing import look
from headgate.stores import Group, Hit
from headgate.stores.registry import open_store
from tests.cli.stored import limiter_of, spent, told
from tests.servers import PATIENCE


def file_of(url: str, prefix: str, folder: Path) -> str:
    """The configuration of the app that has spent."""
    made = folder / "headgate.toml"
    made.write_text(
        f'[stores.main]\nurl = "{url}"\nkey_prefix = "{prefix}"\n'
        '[limiters.api]\nstore = "main"\nlimit = "5/hour"\n'
        '[limiters.login]\nstore = "main"\nlimit = "1/day"\npenalty = "2 denials/hour -> 1h"\n'
    )
    return str(made)


def test_those_who_are_blocked_come_first(
    url: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent(url, prefix)
    limiter_of(url, prefix).try_acquire("user:1", 2)  # and so it has none left
    code, out, err = told(capsys, "top", "--once", "--config", file_of(url, prefix, tmp_path))
    assert (code, err) == (3, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["3", "throttled", "of", "6"]
    assert lines[2] == ["key", "limit", "state", "left", "owes", "for"]
    assert lines[3][:3] == ["mallory", "login.penalty", "blocked"]
    assert sorted(line[:6] for line in lines[4:6]) == [
        ["mallory", "login", "denied", "0", "of", "1"],
        ["user:1", "api", "denied", "0", "of", "5"],
    ]
    assert ["user:12", "api", "2", "of", "5"] in [line[:5] for line in lines[6:]]
    assert "\x1b" not in out


def test_without_a_file_it_knows_those_whom_a_penalty_blocks(
    url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix, "--once")
    code, out, _ = told(capsys, "top", *named, "--json")
    assert code == 3
    found = json.loads(out)
    assert (found["seen"], found["throttled"]) == (6, 1)
    assert found["rows"][0]["key"] == "mallory"
    assert found["rows"][0]["is_blocked"]
    assert found["rows"][0]["is_denied"] is None
    code, out, _ = told(capsys, "top", *named, "--prefix", "user:", "--first", "2")
    assert code == 0
    assert "0 throttled of 3" in out
    assert len(out.splitlines()) == 5


KINDS: list[Limit] = [
    TokenBucket(3, per=60),
    FixedWindow(3, per=60),
    SlidingWindow(3, per=60),
    SlidingLog(3, per=60),
    Concurrency(3, ttl=60),
]


@pytest.mark.parametrize("limit", KINDS, ids=lambda limit: type(limit).__name__)
def test_it_says_what_the_store_would_say(limit: Limit) -> None:
    for cost in (1, 2, 3):
        clock = ManualClock()
        store = MemoryStore(clock)
        store.decide([Group((Hit(limit, "k", "api", cost, "holder"),))])
        clock.advance(1)
        (row,) = look(store.scan(), {"api": limit}, 0, clock()).rows
        (decision,) = store.decide([Group((Hit(limit, "k", "api"),), 0, "peek")])
        assert row.is_denied is (cost == 3)
        assert (row.remaining, row.capacity) == (decision.remaining, 3)
        assert row.retry_after_s == decision.retry_after


def test_a_limit_of_another_algorithm_than_the_file_says_is_not_judged() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    store.decide([Group((Hit(KINDS[0], "k", "api", 3),))])
    (row,) = look(store.scan(), {"api": KINDS[1]}, 0, clock()).rows
    assert row.is_denied is None


def test_who_has_come_to_owe_more_since_the_last_look() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    limit = KINDS[0]
    for key in ("idle", "busy"):
        store.decide([Group((Hit(limit, key, "api"),))])
    first = look(store.scan(), {}, 0, clock())
    assert not any(row.is_rising for row in first.rows)
    store.decide([Group((Hit(limit, "busy", "api"),))])
    second = look(store.scan(), {}, 0, clock(), first.until_us)
    assert {row.key: row.is_rising for row in second.rows} == {"idle": False, "busy": True}


class Terminal:
    """A terminal in which a command runs, and what stands on its screen."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int, columns: int, lines: int) -> None:
        self.process = process
        self._ours = ours
        self._seen = b""
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def raw(self) -> bytes:
        return self._seen

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    @property
    def cursor(self) -> str:
        return "hidden" if self.screen.cursor.hidden else "shown"

    def until(self, is_so: Callable[[str], bool]) -> None:
        """Read until something stands there."""
        deadline = time.monotonic() + PATIENCE
        while not is_so(self.text):
            assert time.monotonic() < deadline, self.text
            self._read(0.1)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read the rest; the exit code."""
        while self.process.poll() is None or self._read(0.1):
            self._read(0.1)
        return self.process.wait(PATIENCE)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            part = os.read(self._ours, 65_536)
        except OSError:  # it is closed
            return False
        self._seen += part
        self._stream.feed(part)
        return bool(part)


@contextmanager
def terminal(
    *argv: str, columns: int = 80, lines: int = 12, before: str = "", **environment: str
) -> Iterator[Terminal]:
    """Run a command in a terminal of its own, of which Ctrl-C makes a SIGINT; and some code before it."""
    ours, theirs = pty.openpty()
    told = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    told |= {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines), **environment}
    code = (
        f"import fcntl, os, runpy, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);{before}\n"
        "sys.argv[0] = 'headgate'; runpy.run_module('headgate', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *argv]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=told)
    os.close(theirs)
    try:
        yield Terminal(process, ours, columns, lines)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)


def test_in_a_terminal_it_goes_on_until_ctrl_c(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    file = file_of(url, prefix, tmp_path)
    with terminal("top", "--every", "0.1", "--config", file) as top:
        top.until(lambda text: "2 throttled of 6" in text and "mallory" in text)
        assert top.cursor == "hidden"
        limiter_of(url, prefix).try_acquire("user:new", 5)
        top.until(lambda text: "3 throttled of 7" in text and "user:new" in text)
        top.type("\x03")
        assert top.end() == 0
        assert top.cursor == "shown"  # as it was before
        assert "Traceback" not in top.text
        assert "user:new" in top.text  # the last look stays
    assert b"\x1b[31m" in top.raw
    assert b"\x1b[?1049h" in top.raw
    assert b"\x1b[?1049l" in top.raw


STRUCK = """
import os, signal
from rich.console import Console

def struck(*args, inner=Console.{method}, **options):
    if {when}:
        os.kill(os.getpid(), signal.{name})
    return inner(*args, **options)

Console.{method} = struck
"""
"""Has a signal come at a point at which the screen opens or closes."""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("method", "when"),
    [
        ("set_live", "True"),
        ("set_alt_screen", "args[1]"),
        ("show_cursor", "not args[1]"),
        ("push_render_hook", "True"),
        ("pop_render_hook", "True"),
        ("set_alt_screen", "not args[1]"),
    ],
)
def test_a_signal_while_the_screen_opens_or_closes(
    method: str, when: str, name: str, tmp_path: Path, prefix: str
) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    before = STRUCK.format(method=method, when=when, name=name)
    with terminal("top", "--every", "0.1", "--store", url, "--store-prefix", prefix, before=before) as top:
        if "pop" in method or ("not args[1]" in when and method == "set_alt_screen"):
            top.until(lambda text: "mallory" in text)
            top.type("\x03")
        assert top.end() == (0 if name == "SIGINT" else 128 + signal.SIGTERM)
        assert b"Traceback" not in top.raw
        assert top.cursor == "shown"
        assert "mallory" in top.text
    assert top.raw.count(b"\x1b[?1049l") == 1


def test_ctrl_c_before_the_first_look_is_an_end_as_well(tmp_path: Path, prefix: str) -> None:
    before = """
import os, signal
from headgate.cli import top

def struck(store, inner=top.clock_ahead_s):
    os.kill(os.getpid(), signal.SIGINT)
    return inner(store)

top.clock_ahead_s = struck
"""
    (tmp_path / "limits.db").touch()
    for argv, code in (((), 0), (("--once",), 130)):
        with terminal("top", *argv, "--store", f"sqlite:///{tmp_path}/limits.db", before=before) as one:
            assert one.end() == code
            assert b"Traceback" not in one.raw


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("length", [8, 40, 110])
def test_a_long_key_leaves_room_for_the_rest(columns: int, length: int, tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    limiter_of(url, prefix).try_acquire("k" * length, 5)
    limiter_of(url, prefix).try_acquire("北" * (length // 2), 5)
    with terminal("top", "--every", "0.1", "--config", file_of(url, prefix, tmp_path), columns=columns) as top:
        top.until(lambda text: "4 throttled of 8" in text and len(text.rstrip().splitlines()) == 3 + 8)  # all is drawn
        head, *rows = [line.split() for line in top.screen.display[2:]]
        assert head[0:3] == ["key", "limit", "state"]
        assert ("left" in head) is (columns >= 60)
        assert ("owes" in head) is (columns >= (80 if length == 8 else 100))
        assert head[-1] == "for"
        for row in rows[:4]:
            assert {"blocked", "denied"} & set(row)
            assert row[-2:] in (["60", "min"], ["24", "h"])
            assert "denied" not in row or columns == 40 or {"0", "of"} <= set(row)
        top.type("\x03")
        assert top.end() == 0


def test_a_screen_that_is_small_has_those_who_matter(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    api = limiter_of(url, prefix)
    for number in range(30):
        api.try_acquire(f"user:{number}:with-a-name-that-is-longer-than-a-screen-is-wide")
    with terminal("top", "--every", "0.1", "--store", url, "--store-prefix", prefix, columns=40, lines=8) as top:
        top.until(lambda text: "of 36" in text and "mallory" in text)
        assert len(top.screen.display) == 8
        assert any("blocked" in line for line in top.screen.display)
        top.type("\x03")
        assert top.end() == 0


def test_no_color_is_heeded(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    for argv in (("top", "--once", *named), ("keys", *named), ("doctor", *named), ("peek", "mallory", *named)):
        with terminal(*argv, NO_COLOR="1") as one:
            one.end()
        assert b"\x1b[31m" not in one.raw
        assert b"\x1b[32m" not in one.raw


def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    with terminal("top", "--every", "0.1", "--store", url, "--store-prefix", prefix) as top:
        top.until(lambda text: "mallory" in text)
        top.process.send_signal(signal.SIGTERM)
        assert top.end() == 128 + signal.SIGTERM
        assert top.cursor == "shown"
    assert b"\x1b[?1049l" in top.raw


def test_piped_it_prints_look_after_look_until_ctrl_c(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    command = [sys.executable, "-m", "headgate", "top", "--every", "0.1", "--store", url, "--store-prefix", prefix]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--json"], **options) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert [one["seen"] for one in looks] == [6, 6]
    assert looks[1]["at"] > looks[0]["at"]


def test_whoever_reads_it_may_go(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    command = f"{sys.executable} -m headgate top --every 0.1 --store {url} --store-prefix {prefix}"
    done = subprocess.run(f"{command} | head -2", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


def test_a_store_that_stops_answering_is_waited_for_in_a_terminal(prefix: str) -> None:
    from tests.servers import own_valkey

    with own_valkey() as server:
        store = open_store(server.url, prefix=prefix, timeout=10)
        store.decide([Group((Hit(TokenBucket(3, per=600), "user:1", "api"),))])
        store.close()
        command = ("top", "--every", "0.1", "--store", server.url, "--store-prefix", prefix)
        with terminal(*command, columns=120) as top:
            top.until(lambda text: "user:1" in text)
            server.stop()
            top.until(lambda text: "it cannot be reached" in text)
            assert "user:1" in top.text
            server.start()
            top.until(lambda text: "it cannot be reached" not in text)
            top.type("\x03")
            assert top.end() == 0


def test_a_store_that_does_not_answer_at_first_is_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "top", "--store", "redis://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "it cannot be reached" in err

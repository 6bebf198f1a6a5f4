"""`headgate keys`, `reset` and `copy`, on each kind of store that processes share."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate import Concurrency, Decision, Limiter
from headgate.cli import main
from headgate.stores.registry import open_store

KINDS = ["SQLite", "Valkey", "Cluster", "PostgreSQL"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is."""
    return _url(request, request.param, tmp_path / "limits.db")


def _url(request: pytest.FixtureRequest, kind: str, path: Path) -> str:
    if kind == "SQLite":
        return f"sqlite:///{path}"
    fixture = {"Valkey": "valkey_url", "Cluster": "cluster_url", "PostgreSQL": "postgres_url"}[kind]
    found: str = request.getfixturevalue(fixture)
    return found


def limiter_of(url: str, prefix: str, limit: str = "5/hour", name: str = "api", **options: Any) -> Limiter:
    """A limiter of an app."""
    store = open_store(url, prefix=prefix, timeout=10)
    return Limiter(limit, store=store, name=name, on_outage="raise", **options)


def spent(url: str, prefix: str) -> None:
    """Have some keys owe something, and one be blocked."""
    api, jobs = limiter_of(url, prefix), limiter_of(url, prefix, "concurrency 3; ttl=60s", "jobs")
    for key in ("user:1", "user:12", "ip:::1"):
        api.try_acquire(key, 3)
    jobs.try_acquire("user:1", 2)
    login = limiter_of(url, prefix, "1/day", "login", penalty="2 denials/hour -> 1h")
    for _ in range(4):
        login.try_acquire("mallory")


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed on both streams."""
    code = main(argv)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_keys_lists_the_longest_debts_first(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    code, out, err = told(capsys, "keys", "--store", url, "--store-prefix", prefix)
    assert (code, err) == (0, "")
    head, *rows, foot = [line for line in out.splitlines() if line]
    assert head.split() == ["key", "limit", "algorithm", "owes", "kept", "for"]
    assert len(rows) == 6
    assert rows[0].split()[:4] == ["mallory", "login", "token", "bucket"]
    assert "blocked for 60 min" in next(row for row in rows if "login.penalty" in row)
    assert "2 slots held" in rows[-1]
    assert foot.startswith("6 in ")
    assert "\x1b" not in out  # nobody reads colours in a pipe


def test_keys_in_json_by_prefix_and_limiter(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix, "--json")
    _, out, _ = told(capsys, "keys", *named, "--prefix", "user:1", "--limiter", "api")
    found = [json.loads(line) for line in out.splitlines()]
    assert sorted(one["key"] for one in found) == ["user:1", "user:12"]
    assert {one["limit"] for one in found} == {"api"}
    assert all(0 < one["left_s"] <= 3_600 and not one["is_blocked"] for one in found)
    _, out, _ = told(capsys, "keys", *named, "--first", "1")
    assert len(out.splitlines()) == 1
    _, out, _ = told(capsys, "keys", *named, "--first", "0")
    assert len(out.splitlines()) == 6


def test_reset_forgets_these_keys_and_no_others(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    code, out, _ = told(capsys, "reset", "user:1", "nobody", *named)
    assert code == 0
    assert out == "user:1: 2 entries forgotten\nnobody: owes nothing\n"
    api = limiter_of(url, prefix)
    assert api.peek("user:1").remaining == 5
    assert api.peek("user:12").remaining == 2
    code, out, _ = told(capsys, "reset", "mallory", *named)
    assert out == "mallory: 2 entries forgotten\n"
    assert limiter_of(url, prefix, "1/day", "login", penalty="2 denials/hour -> 1h").try_acquire("mallory")


def test_reset_all_by_prefix(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    code, out, _ = told(capsys, "reset", "--all", "--prefix", "user:", "--limiter", "api", "--yes", *named)
    assert code == 0
    assert out.startswith("2 entries forgotten in ")
    code, out, _ = told(capsys, "reset", "--all", "--yes", *named)
    assert out.startswith("4 entries forgotten in ")
    assert "Nothing is owed" in told(capsys, "keys", *named)[1]


def test_all_is_not_forgotten_unless_it_is_confirmed(
    tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, _, err = told(capsys, "reset", "--all", *named)
    assert (code, err) == (2, "headgate: nobody is there to be asked: confirm it by --yes\n")
    assert limiter_of(url, prefix).peek("user:1").remaining == 2


def in_terminal(*argv: str, answer: str = "", columns: int = 100) -> str:
    """What a command prints in a terminal, in which somebody types an answer."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "headgate", *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    if answer:
        os.write(ours, answer.encode())
    told = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # it is closed
            break
        if not part:
            break
        told += part
    process.wait(20)
    os.close(ours)
    return told.decode()


@pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False)])
def test_in_a_terminal_it_asks(answer: str, is_done: bool, tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    printed = in_terminal("reset", "--all", "--store", url, "--store-prefix", prefix, answer=answer)
    assert "Forget all keys in sqlite:///" in printed
    assert ("6 entries forgotten" in printed) is is_done
    assert ("Nothing was forgotten." in printed) is not is_done
    assert limiter_of(url, prefix).peek("user:1").remaining == (5 if is_done else 2)


def test_in_a_terminal_there_are_colours_and_no_line_is_too_long(tmp_path: Path, prefix: str) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    spent(url, prefix)
    limiter_of(url, prefix).try_acquire("\x1b[31mred" + "k" * 200)
    printed = in_terminal("keys", "--store", url, "--store-prefix", prefix, columns=60)
    assert "\x1b[31m" in printed  # of what is blocked
    assert "\\x1b[31mred" in printed  # a key, of which a terminal is told nothing
    plain = printed.replace("\x1b[31m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert max(len(line) for line in plain.splitlines() if "sqlite" not in line) <= 62


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("keys", "--store", "mongodb://x"), "store URL mongodb://... is not understood"),
        (("keys", "--store", "main", "--store-prefix", "p"), "--store-prefix goes with a URL"),
        (
            ("keys", "--store", "other", "--config", "FILE"),
            "the configuration has no store 'other': there are main, spare",
        ),
        (("keys", "--config", "FILE"), "which store? Name it by --store: there are main, spare"),
        (("reset", "--store", "sqlite:///x.db"), "which keys? Name some, or all of them by --all"),
        (("reset", "k", "--all", "--store", "sqlite:///x.db"), "which keys?"),
        (("reset", "k", "--prefix", "p", "--store", "sqlite:///x.db"), "--prefix goes with --all"),
        (("reset", "a\0b", "--store", "sqlite:///x.db"), "a key must not hold NUL"),
        (("keys", "--store", "memory://"), "a store in memory is in one process"),
    ],
)
def test_what_is_not_understood_is_said(
    argv: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[stores.main]\nurl = "sqlite:///a.db"\n[stores.spare]\nurl = "sqlite:///b.db"\n')
    code, out, err = told(capsys, *[str(file) if word == "FILE" else word for word in argv])
    assert (code, out) == (2, "")
    assert message in err


def test_a_store_may_be_named_in_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(f'[stores.main]\nurl = "sqlite:///{tmp_path}/a.db"\nkey_prefix = "shop"\n')
    limiter_of(f"sqlite:///{tmp_path}/a.db", "shop").try_acquire("user:1")
    for named in ((), ("--store", "main")):
        code, out, _ = told(capsys, "keys", *named, "--config", str(file), "--json")
        assert code == 0
        assert json.loads(out)["key"] == "user:1"


def test_a_store_that_does_not_answer_is_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (
        ("keys",),
        ("reset", "k"),
        ("copy", "--from", "redis://127.0.0.1:1", "--to", "sqlite:////tmp/none/x.db"),
    ):
        named = () if verb[0] == "copy" else ("--store", "redis://127.0.0.1:1")
        code, out, err = told(capsys, *verb, *named)
        assert (code, out) == (1, "")
        assert "it cannot be reached" in err


# Moving to another store


@pytest.mark.parametrize("target", KINDS)
def test_what_is_owed_is_carried_to_another_store(
    url: str,
    target: str,
    prefix: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spent(url, prefix)
    there = _url(request, target, tmp_path / "target.db")
    to = ("--to", there, "--to-prefix", f"{prefix}-moved")
    command = ("copy", "--from", url, "--from-prefix", prefix, *to)
    code, out, _ = told(capsys, *command, "--dry-run")
    assert code == 0
    assert out.startswith("6 entries in ")
    code, out, err = told(capsys, *command)
    assert (code, err) == (0, "")
    assert out.startswith("6 of 6 entries written to ")
    moved = f"{prefix}-moved"
    assert limiter_of(there, moved).peek("user:1").remaining == 2
    assert limiter_of(there, moved, "concurrency 3; ttl=60s", "jobs").peek("user:1").remaining == 1
    login = limiter_of(there, moved, "1/day", "login", penalty="2 denials/hour -> 1h")
    assert login.peek("mallory").retry_after > 3_000


def test_while_an_app_goes_over_it_admits_at_most_a_bucket_more(url: str, prefix: str, tmp_path: Path) -> None:
    """Copied, then half the instances go over, then copied again when all have."""
    there = f"sqlite:///{tmp_path}/target.db"
    command = ("copy", "--from", url, "--from-prefix", prefix, "--to", there, "--to-prefix", prefix)
    before, after = limiter_of(url, prefix, "100/day"), limiter_of(there, prefix, "100/day")

    def admitted(*limiters: Limiter, times: int) -> int:
        decisions: list[Decision] = [limiter.try_acquire("k") for _ in range(times) for limiter in limiters]
        return sum(decision.allowed for decision in decisions)

    count = admitted(before, times=60)
    assert main(command) == 0
    count += admitted(before, after, times=15)  # the new ones do not know what the old ones spend
    assert main(command) == 0  # the same was spent in both: whichever lasts longer is kept
    count += admitted(after, times=100)
    assert 100 <= count <= 100 + 15


def test_slots_that_are_held_stay_held(url: str, prefix: str, tmp_path: Path) -> None:
    there = f"sqlite:///{tmp_path}/target.db"
    limit = Concurrency(2, ttl=60)
    before = Limiter(limit, store=open_store(url, prefix=prefix, timeout=10), name="jobs")
    after = Limiter(limit, store=open_store(there, prefix=prefix), name="jobs")
    held = before.try_acquire("k", 2)
    assert held
    assert main(("copy", "--from", url, "--from-prefix", prefix, "--to", there, "--to-prefix", prefix)) == 0
    assert not after.try_acquire("k")

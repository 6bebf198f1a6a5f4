"""`headgate check` and `headgate peek`, on each kind of store that processes share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.stored import in_terminal, limiter_of, spent, told


def test_check_spends_and_says_so_by_its_exit_code(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("check", "user:1", "--limit", "2/hour", "--name", "api", "--store", url, "--store-prefix", prefix)
    code, out, err = told(capsys, *command)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "allowed  user:1"
    assert lines[1] == "  api: 1 of 2 left"
    assert told(capsys, *command)[0] == 0
    code, out, err = told(capsys, *command)
    assert (code, err) == (3, "")
    assert out.startswith("denied  user:1  come back in 30 min, for api\n")
    assert limiter_of(url, prefix, "2/hour").peek("user:1").remaining == 0  # what the app counts


def test_check_in_json_of_several_limits_and_a_cost(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--limit", "10/hour", "--limit", "4/minute")
    code, out, _ = told(
        capsys, "check", "k", *limits, "--cost", "3", "--store", url, "--store-prefix", prefix, "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert (found["allowed"], found["key"], found["cost"], found["retry_after_s"]) == (True, "k", 3, 0)
    assert {one["remaining"] for one in found["limits"].values()} == {7, 1}
    code, out, _ = told(
        capsys, "check", "k", *limits, "--cost", "3", "--store", url, "--store-prefix", prefix, "--json"
    )
    assert code == 3
    assert 0 < json.loads(out)["retry_after_s"] <= 30


def test_peek_spends_nothing(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("peek", "user:1", "--limit", "1/hour", "--name", "api", "--store", url, "--store-prefix", prefix)
    for _ in range(2):
        code, out, err = told(capsys, *command)
        assert (code, err) == (0, "")
        assert out.startswith("would be allowed  user:1\n  api: 1 of 1 left\n")
    limiter_of(url, prefix, "1/hour").try_acquire("user:1")
    code, out, _ = told(capsys, *command)
    assert code == 3
    assert out.startswith("would be denied  user:1  come back in 60 min, for api\n")


def test_peek_without_a_limit_lists_what_is_kept_of_the_key(
    url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spent(url, prefix)
    named = ("--store", url, "--store-prefix", prefix)
    code, out, err = told(capsys, "peek", "user:1", *named, "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["limit"] for line in out.splitlines()] == ["api", "jobs"]  # and nothing of user:12
    code, out, _ = told(capsys, "peek", "mallory", *named)
    assert code == 3  # a penalty blocks it
    assert "blocked for 60 min" in out
    code, out, _ = told(capsys, "peek", "nobody", *named)
    assert code == 0
    assert out.startswith("Nothing is owed in ")


@pytest.fixture
def file(url: str, prefix: str, tmp_path: Path) -> str:
    """A configuration of an app."""
    made = tmp_path / "headgate.toml"
    made.write_text(
        f'[stores.main]\nurl = "{url}"\nkey_prefix = "{prefix}"\n'
        '[limiters.api]\nstore = "main"\nlimit = "5/hour"\npenalty = "2 denials/hour -> 2h"\n'
        '[limiters.api.tiers]\npro = "50/hour"\n'
        '[limiters.drawn]\nstore = "main"\nlimit = "100/hour"\nlease = true\n'
        '[limiters.several]\nstore = "main"\nlimits = { short = "2/minute", long = "9/day" }\n'
    )
    return str(made)


def test_a_limiter_of_the_configuration_counts_where_the_app_does(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from headgate.config.loading import load
    from headgate.config.process import Configured

    named = ("--limiter", "api", "--config", file)
    assert told(capsys, "check", "k", *named, "--cost", "4")[0] == 0
    app = Configured()
    app.replace(load(file))
    assert app.limiter("api").limiter.peek("k").remaining == 1
    code, out, _ = told(capsys, "peek", "k", *named, "--tier", "pro")
    assert code == 0
    assert "of 50 left" in out
    for _ in range(4):
        code, out, _ = told(capsys, "check", "k", *named, "--cost", "5")
    assert code == 3
    assert "come back in 2 h" in out or "come back in 120 min" in out  # by the penalty
    code, out, _ = told(capsys, "check", "k", "--limiter", "several", "--config", file, "--json")
    assert {name: one["remaining"] for name, one in json.loads(out)["limits"].items()} == {"short": 1, "long": 8}
    code, out, _ = told(capsys, "check", "k", "--limiter", "drawn", "--config", file, "--json")
    assert json.loads(out)["remaining"] == 99  # no more is drawn than is spent
    app.open_stores.close()


@pytest.mark.parametrize("verb", ["check", "peek"])
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--limit", "1/s", "--store", "memory://"), "a store in memory is in one process"),
        (("--limiter", "mine", "--config", "FILE"), "a store in memory is in one process"),
        (("--limiter", "other", "--config", "FILE"), "the configuration has no limiter 'other': there are api, mine"),
        (("--limiter", "api", "--config", "FILE", "--tier", "x"), "the limiter 'api' has no tier 'x': there are none"),
        (("--limiter", "api", "--limit", "1/s", "--config", "FILE"), "which limit? Say it by --limit"),
        (("--limiter", "api", "--name", "n", "--config", "FILE"), "--name goes with --limit"),
        (("--limit", "1/s", "--tier", "n", "--store", "sqlite:///x.db"), "--tier goes with --limiter"),
        (("--limit", "1/fortnight", "--store", "sqlite:///x.db"), "1/fortnight\n"),
        (("--limit", "1/s", "--cost", "-1"), "Invalid value for '--cost'"),
        (("--limit", "1/s", "--cost", "2", "--store", "sqlite:///x.db"), "can never pass"),
    ],
)
def test_what_is_not_understood_is_said(
    verb: str, argv: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(
        '[stores.main]\nurl = "sqlite:///a.db"\n[stores.here]\nurl = "memory://"\n'
        '[limiters.api]\nstore = "main"\nlimit = "1/s"\n[limiters.mine]\nstore = "here"\nlimit = "1/s"\n'
    )
    code, out, err = told(capsys, verb, "k", *[str(file) if word == "FILE" else word for word in argv])
    assert (code, out) == (2, "")
    assert message in err


def test_an_outage_is_no_denial(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (("check", "k", "--limit", "1/s"), ("peek", "k", "--limit", "1/s"), ("peek", "k")):
        code, out, err = told(capsys, *argv, "--store", "redis://127.0.0.1:1")
        assert (code, out) == (1, "")
        assert "it cannot be reached" in err


def test_an_outage_is_said_once(tmp_path: Path) -> None:
    """In a process of its own: a test has a handler for the log, and who types a command has none."""
    file = tmp_path / "headgate.toml"
    file.write_text('[stores.main]\nurl = "redis://127.0.0.1:1"\n[limiters.api]\nstore = "main"\nlimit = "2/hour"\n')
    for verb in ("check", "peek"):
        for which in (("--limit", "2/hour", "--store", "redis://127.0.0.1:1"), ("--limiter", "api")):
            command = [sys.executable, "-m", "headgate", verb, "k", *which, "--config", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith("headgate: ")
            assert done.stderr.count("\n") == 1


def test_a_key_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    printed = in_terminal("check", "\x1b[31mred", "--limit", "1/s", "--store", f"sqlite:///{tmp_path}/a.db")
    assert "\x1b[1;32mallowed" in printed
    assert "\\x1b[31mred" in printed

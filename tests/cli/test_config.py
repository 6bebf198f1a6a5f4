"""`headgate config` says how a file is understood, or all that is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.config.schema import schema
from tests.config.test_loading import WHOLE


def test_a_file_is_printed_as_it_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(WHOLE)]) == 0
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert lines[0] == f"{WHOLE} is understood."
    assert any(line.startswith("main redis://localhost:6379/0 username ***") for line in lines)
    assert any(line.startswith("login sliding-window 5/5m local as long as it takes") for line in lines)
    assert any(line.startswith("login POST /login 5/minute + 20/hour ip") for line in lines)
    assert "counted in store 'local', as 'shop'" in lines
    assert "charge_when status 401, 5xx" in printed
    assert "cost tokens: by header x-cost" in printed


def test_all_that_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[limiters.api]\nlimt = "5/s"\n[web]\nheaders = "none"\n', "utf-8")
    assert main(["config", "check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{file}: 2 problems" in captured.err
    assert "did you mean 'limit'?" in captured.err


def test_passwords_are_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "s3cr3t")
    file = tmp_path / "headgate.toml"
    file.write_text(
        '[stores.a]\nurl = "redis://:s3cr3t@localhost"\n'
        '[stores.b]\nurl = "redis://localhost"\npassword = "${PASSWORD}"\n',
        "utf-8",
    )
    assert main(["config", "check", str(file)]) == 0
    assert "s3cr3t" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://app:s3cr3t@db.internal:5433/limits?sslmode=require", "postgresql://db.internal:5433/limits"),
        ("redis://app:s3cr3t@cache.internal:6380/2", "redis://cache.internal:6380/2"),
        ("nats://app:s3cr3t@queue.internal:4333/shop", "nats://queue.internal:4333/shop"),
        ("redis+cluster://:s3cr3t@one:7000,two:7001", "one:7000"),
    ],
)
def test_where_a_store_is_is_said_without_its_password(
    url: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text(f'[stores.a]\nurl = "{url}"\n', "utf-8")
    for argv in ((), ("--json",)):
        assert main(["config", "check", str(file), *argv]) == 0
        printed = capsys.readouterr().out
        assert where in printed
        assert "s3cr3t" not in printed
        assert "app" not in printed.replace(str(file), "")


def test_functions_are_imported_only_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text('[[rules]]\nlimit = "5/s"\ncost = "no.such:cost"\n', "utf-8")
    assert main(["config", "check", str(file)]) == 0
    assert "cost no.such:cost" in capsys.readouterr().out
    assert main(["config", "check", "--import", str(file)]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()

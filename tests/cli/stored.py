"""Stores with something in them, and commands about them, run here or in a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate import Limiter
from headgate.cli import main
from headgate.stores.registry import open_store

FIXTURES = {
    "Valkey": "valkey_url",
    "Cluster": "cluster_url",
    "Sentinel": "sentinel_url",
    "PostgreSQL": "postgres_url",
    "NATS": "nats_url",
}
ALL_KINDS = ["SQLite", *FIXTURES]
"""Every kind of store that processes share."""


def url_of(request: pytest.FixtureRequest, kind: str, path: Path) -> str:
    """Where a store of a kind is."""
    if kind == "SQLite":
        return f"sqlite:///{path}"
    found: str = request.getfixturevalue(FIXTURES[kind])
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

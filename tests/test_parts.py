"""On a machine without the programs that no wheel has, the suite passes, and ends by naming what was not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDS_REDIS = "tests/contract/test_redis7.py"
SOME = "test_a_denial_spends_nothing"


def run(*, everything: bool) -> subprocess.CompletedProcess[str]:
    """Run tests that need a program, where no program is found."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", NEEDS_REDIS, "-k", SOME],
        cwd=ROOT,
        env={**os.environ, "PATH": "/nowhere", "HEADGATE_TEST_ALL": "1" if everything else "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_missing_is_named_with_the_number_of_tests_at_the_end() -> None:
    done = run(everything=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary, last = done.stdout.splitlines()
    skipped = summary.partition(" skipped")[0].split()[-1]
    assert int(skipped) > 1
    assert last == f"NOT RUN: {skipped} tests need redis-server: `make servers` installs it"


def test_what_is_missing_fails_where_all_is_to_be_there() -> None:
    done = run(everything=True)
    assert done.returncode == 1
    assert "redis-server is missing, and HEADGATE_TEST_ALL is set: `make servers` installs it" in done.stdout


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    done = _install(str(programs(tmp_path, redis_server="", pgbouncer="", initdb="", chromium="", memcached="")))
    assert done.returncode == 0
    assert "Nothing to install" in done.stdout


def test_another_system_is_told_what_to_install() -> None:
    done = _install("/nowhere")
    assert done.returncode == 1
    assert "This installs by apt-get, on Debian and Ubuntu, and there is none here" in done.stderr
    assert "redis-server" in done.stderr


def programs(folder: Path, **scripts: str) -> Path:
    """A folder of programs, each of which is a line of shell."""
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return folder


def test_what_is_missing_is_installed_and_its_service_stopped(tmp_path: Path) -> None:
    """By programs that say what they were asked for, in place of those that would do it."""
    said = 'echo "$0 $*" >> "$SAID"'
    path = programs(
        tmp_path,
        id="echo 0",
        env='shift; exec "$@"',
        apt_get=said,
        apt_cache="exit 1",
        service=said,
        initdb="",
        pgbouncer="",
        chromium="",
        memcached="",
    )
    done = _install(str(path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text().replace(f"{tmp_path}/", "").splitlines() == [
        "apt-get update -qq",
        "apt-get install -qq -y --no-install-recommends redis-server",
        "service redis-server stop",
    ]
    assert "Installing redis-server" in done.stdout
    assert "Stopping the service redis-server, which was installed just now" in done.stdout


def test_sudo_is_used_where_it_is_needed_and_asked_for_where_there_is_none(tmp_path: Path) -> None:
    path = programs(tmp_path, id="echo 1000", apt_get="exit 7", sudo='echo "sudo $*" >> "$SAID"; exec "$@"')
    assert _install(str(path)).returncode == 7
    assert (tmp_path / "said").read_text() == "sudo apt-get update -qq\n"
    (tmp_path / "sudo").unlink()
    done = _install(str(path))
    assert done.returncode == 1
    assert "there is no sudo: run `make servers` as root" in done.stderr


def _install(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "tests/install_servers.sh"],
        env={"PATH": path, "SAID": f"{path}/said"},
        capture_output=True,
        text=True,
        check=False,
    )

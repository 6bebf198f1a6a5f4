"""A crowd from many processes on one key: what is admitted is what the limit says, to the token, in every interval."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import redis

from tests.faults.processes import run_in_processes
from tests.faults.workers import Seen, hammer_with_tasks, hammer_with_threads

RATE, BURST, SECONDS = 500, 500, 10.0
LIMIT = f"{RATE}/second; burst={BURST}"


def check_bound_in_every_interval(admitted: list[int], apart_us: int = 0) -> None:
    """In every interval of length t, at most `burst + rate * t` were admitted. In millionths of a token."""
    lowest = None
    for index, at in enumerate(admitted):
        level = index * 1_000_000 - RATE * at
        lowest = level if lowest is None else min(lowest, level)
        assert level + 1_000_000 - lowest <= BURST * 1_000_000 + RATE * apart_us


def check_that_no_token_was_withheld(admitted: list[int], last_denied: int, apart_us: int = 0) -> None:
    """At a denial the bucket held less than one token: all others had been handed out. In millionths of a token."""
    full = level = BURST * 1_000_000
    since = admitted[0]
    for at in itertools.takewhile(lambda at: at <= last_denied, admitted):
        level = min(full, level + RATE * (at - since)) - 1_000_000  # what a full bucket earns is nobody's
        since = at
    assert -RATE * apart_us <= level + RATE * (last_denied - since) < 1_000_000 + RATE * apart_us


def check(crowd: list[Seen], url: str) -> None:
    apart_us = 20_000 if url.startswith("nats") else 0  # each process knows the server's clock by a round trip
    admitted = sorted(at for seen in crowd for at in seen.admitted)
    last_denied = max(seen.denied[1] for seen in crowd)
    assert last_denied > 0
    assert sum(seen.asked for seen in crowd) > len(admitted) > BURST
    assert last_denied - admitted[0] > 5 * 1_000_000  # long enough to mean something
    check_bound_in_every_interval(admitted, apart_us)
    check_that_no_token_was_withheld(admitted, last_denied, apart_us)


@pytest.fixture(params=["valkey", "sqlite", "postgres", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store for several processes is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/limits.db"
    named: str = request.getfixturevalue(f"{request.param}_url")
    return named


def check_what_is_left(url: str, prefix: str) -> None:
    """At most the one key is."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as admin:
            assert len(list(admin.scan_iter(f"{prefix}:*"))) <= 1


def test_threads_of_many_processes_get_exactly_what_the_limit_says(url: str, prefix: str) -> None:
    check(run_in_processes([(hammer_with_threads, (url, prefix, LIMIT, 8, SECONDS))] * 4), url)
    check_what_is_left(url, prefix)


def test_tasks_of_many_processes_get_exactly_what_the_limit_says(url: str, prefix: str) -> None:
    check(run_in_processes([(hammer_with_tasks, (url, prefix, LIMIT, 200, SECONDS))] * 4), url)
    check_what_is_left(url, prefix)

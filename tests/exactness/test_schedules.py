"""The schedules of `make exactness`, for headgate alone, in short: on a real server, by its own clock.

A decision tells the instant at which it was made, so what should have been admitted is known to the token. Whoever
remembered a denial here did not ask, and is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from benchmarks import ideals
from benchmarks.ideals import Ideal, Rate, Span

from headgate import Decision, FixedWindow, Limit, Limiter, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores.redis import RedisStore

PATIENT = 30.0
SECOND_US = 1_000_000
Stores = Callable[[], RedisStore]


def limits(tokens: int, per_us: int, burst: int) -> list[tuple[Limit, Ideal, Rate]]:
    """Each algorithm with the same rate."""
    rate, per_s = Rate(tokens, per_us, burst), per_us / SECOND_US
    return [
        (TokenBucket(tokens, per_s, burst=burst), ideals.token_bucket, rate),
        (FixedWindow(tokens, per_s), ideals.fixed_window, rate),
        (SlidingWindow(tokens, per_s), ideals.sliding_window_rounded_up, rate),
        (SlidingLog(tokens, per_s), ideals.sliding_log, rate),
    ]


@pytest.fixture
def store(valkey_url: str, prefix: str) -> Iterator[Stores]:
    """Makes stores that share their keys, each with connections of its own."""
    made: list[RedisStore] = []

    def make() -> RedisStore:
        made.append(RedisStore(valkey_url, prefix=prefix, timeout=PATIENT))
        return made[-1]

    yield make
    for each in made:
        each.close()


def opened(limit: Limit | dict[str, str], store: Stores) -> Limiter:
    return Limiter(limit, store=store(), on_outage="raise")


def check(decisions: list[Decision], ideal: Ideal, rate: Rate) -> None:
    """Exactly what should have been admitted was."""
    asked = [decision for decision in decisions if decision.source == "store"]
    bounds = ideal([Span(decision.now_us, decision.now_us) for decision in asked], rate)
    admitted = sum(decision.allowed for decision in decisions)
    assert bounds == (admitted, admitted)


def ask_for(limiter: Limiter, seconds: float, key: str = "k") -> list[Decision]:
    until = time.monotonic() + seconds
    decisions = [limiter.try_acquire(key)]
    while time.monotonic() < until:
        decisions.append(limiter.try_acquire(key))
    return decisions


@pytest.mark.parametrize(("limit", "ideal", "rate"), limits(150, 100_000, 10))
def test_as_fast_as_possible(store: Stores, limit: Limit, ideal: Ideal, rate: Rate) -> None:
    check(ask_for(opened(limit, store), 0.4), ideal, rate)


@pytest.mark.parametrize(("limit", "ideal", "rate"), limits(30, 100_000, 300))
def test_after_idling(store: Stores, limit: Limit, ideal: Ideal, rate: Rate) -> None:
    limiter = opened(limit, store)
    decisions = [limiter.try_acquire("k") for _ in range(400)]
    time.sleep(0.25)  # longer than two periods
    decisions += [limiter.try_acquire("k") for _ in range(400)]
    check(decisions, ideal, rate)


def test_just_under_the_limit_nothing_is_denied(store: Stores) -> None:
    limiter = opened(TokenBucket(200, 1, burst=1), store)
    last_us, denied = 0, 0
    for _ in range(60):
        time.sleep(0.005)
        decision = limiter.try_acquire("k")
        denied += not decision.allowed and decision.now_us - last_us >= 5_000
        last_us = decision.now_us if decision.allowed else last_us
    assert denied == 0


@pytest.mark.parametrize(("limit", "ideal", "rate"), limits(50, 100_000, 20))
def test_while_the_server_forgets_its_scripts(
    valkey_url: str, store: Stores, limit: Limit, ideal: Ideal, rate: Rate
) -> None:
    limiter = opened(limit, store)
    decisions = []
    with redis.Redis.from_url(valkey_url) as admin:
        for _ in range(6):
            decisions += ask_for(limiter, 0.04)
            admin.script_flush()
    check(decisions, ideal, rate)


@pytest.mark.parametrize("narrow", ["user", "ip", "global"])
@pytest.mark.parametrize("words", ["{}/300d", "fixed-window {}/300d", "sliding-window {}/300d", "sliding-log {}/300d"])
def test_what_one_tier_denies_spends_nothing_in_the_others(store: Stores, words: str, narrow: str) -> None:
    tiers = ("user", "ip", "global")
    made = {tier: words.format(20 if tier == narrow else 100) for tier in tiers}
    limiter = opened(made, store)
    went = sum(limiter.try_acquire(dict.fromkeys(tiers, "k")).allowed for _ in range(60))
    assert went == 20
    for tier in set(tiers) - {narrow}:
        costs = {other: int(other == tier) for other in tiers}
        assert sum(limiter.try_acquire(dict.fromkeys(tiers, "k"), cost=costs).allowed for _ in range(101)) == 80


@pytest.mark.parametrize(("limit", "ideal", "rate"), limits(50, 100_000, 100))
def test_four_callers_at_once(store: Stores, limit: Limit, ideal: Ideal, rate: Rate) -> None:
    callers = [opened(limit, store) for _ in range(4)]
    with ThreadPoolExecutor(len(callers)) as threads:
        heard = list(threads.map(lambda limiter: ask_for(limiter, 0.4), callers))
    check([decision for decisions in heard for decision in decisions], ideal, rate)

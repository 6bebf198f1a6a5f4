"""The clock of a server jumps, by which all is decided: no limit is opened by that, and none is lost for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from headgate import Concurrency, FixedWindow, Limiter, SlidingLog, SlidingWindow, TokenBucket
from headgate.hits import Group, Hit
from headgate.limits import Limit
from headgate.stores.redis import RedisStore
from tests.shifted_clocks import HOUR_S, Shifted, shifted_valkey

LIMITS: list[Limit] = [
    TokenBucket(5, per=HOUR_S),
    FixedWindow(5, per=HOUR_S),
    SlidingWindow(5, per=HOUR_S),
    SlidingLog(5, per=HOUR_S),
    Concurrency(5, ttl=HOUR_S),
]


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shifted]:
    with shifted_valkey(tmp_path_factory.mktemp("clock")) as shifted:
        yield shifted


def admitted(store: RedisStore, limit: Limit, key: str, times: int = 20) -> int:
    """Of so many hits, how many are admitted."""
    groups = [Group((Hit(limit, key, "n", 1, f"{os.urandom(4).hex()}.{HOUR_S * 1_000_000}"),)) for _ in range(times)]
    return sum(decision.allowed for decision in store.decide(groups))


@pytest.fixture
def store(shifted: Shifted) -> Iterator[RedisStore]:
    store = RedisStore(shifted.server.url, timeout=20, remember_denials=0)
    yield store
    store.close()


def test_the_clock_is_moved(shifted: Shifted, store: RedisStore) -> None:
    limiter = Limiter("5/hour", store=store, on_outage="raise", name="moved")
    before = limiter.peek("k").now_us
    shifted.move(-HOUR_S)
    assert -HOUR_S <= (limiter.peek("k").now_us - before) / 1e6 < -HOUR_S / 2
    shifted.move(HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_jumps_back_by_an_hour_opens_no_limit_and_loses_none(
    shifted: Shifted, store: RedisStore, limit: Limit
) -> None:
    key = f"back {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shifted.move(-HOUR_S)
    assert admitted(store, limit, key) == 0
    shifted.move(2 * HOUR_S)  # after that, two periods are over by any clock
    assert admitted(store, limit, key) == 5
    shifted.move(-HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_stays_a_day_behind_denies_for_two_periods_at_most(
    shifted: Shifted, store: RedisStore, limit: Limit
) -> None:
    key = f"behind {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shifted.move(-24 * HOUR_S)
    assert admitted(store, limit, key) == 0
    shifted.move(2 * HOUR_S)
    assert admitted(store, limit, key) == 5
    shifted.move(22 * HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_jumps_forward_and_back_gives_away_what_is_earned_in_that_time(
    shifted: Shifted, store: RedisStore, limit: Limit
) -> None:
    key = f"forth {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shifted.move(2 * HOUR_S)
    assert admitted(store, limit, key) == 5  # as if two hours had passed
    shifted.move(-2 * HOUR_S)
    assert admitted(store, limit, key) == 0

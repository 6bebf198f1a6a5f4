"""The clock of a server jumps, by which all is decided: no limit is opened by that, and none is lost for ever.

The server is a real one, whose calls for the time go through a few lines of C (tests/shifted_clock.c).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate import Concurrency, FixedWindow, Limiter, SlidingLog, SlidingWindow, TokenBucket
from headgate.hits import Group, Hit
from headgate.limits import Limit
from headgate.stores.redis import RedisStore
from tests.parts import program
from tests.servers import OwnValkey, eventually, own_valkey

HOUR_S = 3_600
LIMITS: list[Limit] = [
    TokenBucket(5, per=HOUR_S),
    FixedWindow(5, per=HOUR_S),
    SlidingWindow(5, per=HOUR_S),
    SlidingLog(5, per=HOUR_S),
    Concurrency(5, ttl=HOUR_S),
]
Shift = Callable[[float], None]


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OwnValkey, Shift]]:
    """A server, and what moves its clock."""
    folder = tmp_path_factory.mktemp("clock")
    library, told = folder / "shifted_clock.so", folder / "shift"
    source = Path(__file__).parents[1] / "shifted_clock.c"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    shift_us = 0
    told.write_bytes(shift_us.to_bytes(8, "little", signed=True))

    def shift(by_s: float) -> None:
        nonlocal shift_us
        shift_us += int(by_s * 1_000_000)
        with told.open("r+b") as file:
            file.write(shift_us.to_bytes(8, "little", signed=True))

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LD_PRELOAD", str(library))
        patched.setenv("HEADGATE_CLOCK", str(told))
        with own_valkey() as valkey:
            patched.undo()

            def shift_and_wait(by_s: float) -> None:
                shift(by_s)
                with valkey.admin() as admin:  # it reads its clock ten times a second

                    def is_read() -> bool:
                        ahead_s: float = admin.time()[0] - time.time()
                        return abs(ahead_s - shift_us / 1e6) < HOUR_S / 10

                    eventually(is_read, "the server has seen it")

            yield valkey, shift_and_wait


def admitted(store: RedisStore, limit: Limit, key: str, times: int = 20) -> int:
    """Of so many hits, how many are admitted."""
    groups = [Group((Hit(limit, key, "n", 1, f"{os.urandom(4).hex()}.{HOUR_S * 1_000_000}"),)) for _ in range(times)]
    return sum(decision.allowed for decision in store.decide(groups))


@pytest.fixture
def store(shifted: tuple[OwnValkey, Shift]) -> Iterator[RedisStore]:
    store = RedisStore(shifted[0].url, timeout=20, remember_denials=0)
    yield store
    store.close()


def test_the_clock_is_moved(shifted: tuple[OwnValkey, Shift], store: RedisStore) -> None:
    limiter = Limiter("5/hour", store=store, on_outage="raise", name="moved")
    before = limiter.peek("k").now_us
    shifted[1](-HOUR_S)
    assert -HOUR_S <= (limiter.peek("k").now_us - before) / 1e6 < -HOUR_S / 2
    shifted[1](HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_jumps_back_by_an_hour_opens_no_limit_and_loses_none(
    shifted: tuple[OwnValkey, Shift], store: RedisStore, limit: Limit
) -> None:
    _, shift = shifted
    key = f"back {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shift(-HOUR_S)
    assert admitted(store, limit, key) == 0
    shift(2 * HOUR_S)  # after that, two periods are over by any clock
    assert admitted(store, limit, key) == 5
    shift(-HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_stays_a_day_behind_denies_for_two_periods_at_most(
    shifted: tuple[OwnValkey, Shift], store: RedisStore, limit: Limit
) -> None:
    _, shift = shifted
    key = f"behind {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shift(-24 * HOUR_S)
    assert admitted(store, limit, key) == 0
    shift(2 * HOUR_S)
    assert admitted(store, limit, key) == 5
    shift(22 * HOUR_S)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)
def test_a_clock_that_jumps_forward_and_back_gives_away_what_is_earned_in_that_time(
    shifted: tuple[OwnValkey, Shift], store: RedisStore, limit: Limit
) -> None:
    _, shift = shifted
    key = f"forth {type(limit).__name__}"
    assert admitted(store, limit, key) == 5
    shift(2 * HOUR_S)
    assert admitted(store, limit, key) == 5  # as if two hours had passed
    shift(-2 * HOUR_S)
    assert admitted(store, limit, key) == 0

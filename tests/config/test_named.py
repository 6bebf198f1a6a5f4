"""Stores and limiters by name: configured from files and from code, asked in each way, counted, changed in use."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headgate
from headgate import (
    AcquireTimeout,
    AsyncLimiter,
    ConfigError,
    Decision,
    InvalidUse,
    Limiter,
    ManualClock,
    MemoryStore,
    acquire,
    configure,
    configure_limiter,
    configure_store,
    get_limiter,
)
from headgate.config import aclose, close


@pytest.fixture(autouse=True)
def clock() -> Iterator[ManualClock]:
    """Nothing is configured but a store whose clock the test moves."""
    made = ManualClock()
    close()
    configure_store("main", store=MemoryStore(made))
    yield made
    close()


async def test_a_turn_is_awaited_or_waited_for() -> None:
    configure_limiter("api", "2/minute")
    assert (await acquire("api")).remaining == 1
    assert acquire("api").wait().remaining == 0
    with pytest.raises(AcquireTimeout):
        await acquire("api", timeout=0)
    with pytest.raises(AcquireTimeout):
        acquire("api", timeout=1).wait()


async def test_a_block_holds_a_slot_and_gives_it_back() -> None:
    configure_limiter("jobs", max_concurrent=1, timeout=0)
    with acquire("jobs") as hold:
        assert hold.decision.allowed
        with pytest.raises(AcquireTimeout), acquire("jobs"):
            pass
    async with acquire("jobs"):
        with pytest.raises(AcquireTimeout):
            async with acquire("jobs"):
                pass
    with acquire("jobs"):
        pass


async def test_a_slot_is_given_back_when_the_block_fails() -> None:
    configure_limiter("jobs", max_concurrent=1, timeout=0)
    with pytest.raises(RuntimeError), acquire("jobs"):
        raise RuntimeError
    with pytest.raises(RuntimeError):
        async with acquire("jobs"):
            raise RuntimeError
    with acquire("jobs"):
        assert get_limiter("jobs").metrics().concurrent == 1
    assert get_limiter("jobs").metrics().concurrent == 0


async def test_a_turn_without_an_end_is_refused_where_there_are_slots() -> None:
    configure_limiter("jobs", "5/second", max_concurrent=1)
    with pytest.raises(InvalidUse, match="write 'async with acquire"):
        acquire("jobs").wait()
    with pytest.raises(InvalidUse, match="write 'async with acquire"):
        await acquire("jobs")


async def test_a_turn_is_asked_for_once() -> None:
    configure_limiter("api", "5/minute")
    turn = acquire("api")
    await turn
    with pytest.raises(InvalidUse, match="asked for once"):
        turn.wait()


def test_a_turn_that_nobody_asks_for_is_warned_of() -> None:
    configure_limiter("api", "5/minute")
    with pytest.warns(RuntimeWarning, match=r"acquire\('api'\) was neither awaited nor entered"):
        acquire("api")  # and is gone at once
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        acquire("api").wait()
        gc.collect()


def test_keys_have_shares_of_their_own_and_all_without_one_have_one() -> None:
    configure_limiter("api", "1/minute")
    api = get_limiter("api")
    assert [bool(api.try_acquire(key)) for key in ("a", "b", "a")] == [True, True, False]
    assert [bool(api.try_acquire()) for _ in range(2)] == [True, False]


async def test_both_kinds_of_limiter_count_together() -> None:
    configure_limiter("api", "4/minute")
    api = get_limiter("api")
    assert api.try_acquire().remaining == 3
    assert (await api.try_acquire_async()).remaining == 2
    assert api.limiter.try_acquire(api.keys()).remaining == 1
    assert (await api.async_limiter.try_acquire(api.keys())).remaining == 0
    assert isinstance(api.limiter, Limiter)
    assert isinstance(api.async_limiter, AsyncLimiter)


def test_tiers_have_other_numbers() -> None:
    configure_limiter("api", "1/minute", max_concurrent=5, tiers={"pro": "3/minute"})
    api = get_limiter("api")
    assert api.try_acquire("a", tier="pro").limit == 3
    assert api.try_acquire("b", tier="unknown").limit == 1
    assert api.try_acquire("c").limit == 1


NAMED = {"requests": "5/hour", "tokens": "9/hour"}


@pytest.mark.parametrize("limits", [{"limit": "9/hour"}, {"limits": NAMED}], ids=["one", "named"])
@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "asyncio"])
async def test_a_limiter_of_a_name_decides_in_each_way(limits: Any, is_async: bool) -> None:
    configure_limiter("api", tiers={"pro": {"tokens": "20/hour"} if "limits" in limits else "20/hour"}, **limits)
    api = get_limiter("api")

    async def ask(way: str, *arguments: Any, **options: Any) -> Decision:
        found = getattr(api, f"{way}_async" if is_async else way)(*arguments, **options)
        decision: Decision = await found if is_async else found
        return decision

    room = 5 if "limits" in limits else 9
    assert await ask("try_acquire", "ann", 2, reserve=room - 2)
    assert not await ask("try_acquire", "ann", reserve=room - 2)
    assert (await ask("try_acquire_up_to", "ann", 50)).cost == room - 2
    assert not await ask("try_acquire", "ann")
    for _ in range(3):
        assert await ask("try_acquire_once", "bob", "payment-17", 3)
    assert (await ask("try_acquire_up_to", "bob", 50)).cost == room - 3
    if "limit" in limits:
        assert (await ask("try_acquire_up_to", "pro", 50, tier="pro")).cost == 20
        assert not await ask("try_acquire", "pro", reserve=1, tier="pro")
        assert await ask("try_acquire_once", "another pro", "payment-17", 20, tier="pro", period=60)
    assert api.metrics().denied == (3 if "limit" in limits else 2)


async def test_what_happened_is_counted(clock: ManualClock) -> None:
    configure_limiter("api", "2/minute")
    api = get_limiter("api")
    api.try_acquire()
    await api.try_acquire_async()
    api.try_acquire()
    with pytest.raises(AcquireTimeout):
        await acquire("api", timeout=0)
    clock.advance(60)
    await acquire("api")
    metrics = api.metrics()
    assert (metrics.allowed, metrics.denied, metrics.timeouts, metrics.in_outage) == (3, 2, 1, 0)
    assert metrics.average_wait >= 0


async def test_waits_are_measured() -> None:
    configure({"limiters": {"api": {"limit": "1/10ms"}}})
    for _ in range(3):
        await acquire("api")
    metrics = get_limiter("api").metrics()
    assert metrics.waited == 2
    assert metrics.longest_wait >= metrics.average_wait > 0


def test_threads_count_exactly() -> None:
    configure_limiter("api", "100/day", timeout=0)
    configure_limiter("slots", max_concurrent=64)

    def work() -> None:
        for _ in range(50):
            get_limiter("api").try_acquire()
            with acquire("slots"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = get_limiter("api").metrics()
    assert (metrics.allowed, metrics.denied) == (100, 100)
    slots = get_limiter("slots").metrics()
    assert (slots.allowed, slots.concurrent) == (200, 0)
    assert 1 <= slots.most_concurrent <= 4


def test_an_outage_is_counted() -> None:
    configure({"stores": {"gone": {"url": "redis://127.0.0.1:1/0"}}, "limiters": {"api": {"limit": "1/minute"}}})
    assert get_limiter("api").try_acquire().source == "fail_open"
    assert get_limiter("api").metrics().in_outage == 1


def test_a_name_that_nobody_configured_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"call headgate\.configure"):
        acquire("api")
    configure_limiter("api", "5/minute")
    with pytest.raises(ConfigError, match="did you mean 'api'"):
        acquire("apy")


def test_code_is_refused_as_a_file_is() -> None:
    with pytest.raises(ConfigError, match=r"\[limiters\.api\], rate_per_secnd: .* did you mean 'rate_per_second'"):
        configure_limiter("api", rate_per_secnd=5)
    with pytest.raises(ConfigError, match=r"\[stores\.x\], pool_max_size: leave it out"):
        configure_store("x", "redis://localhost", pool_max_size=20)
    with pytest.raises(InvalidUse, match="give it alone"):
        configure_store("x", store=MemoryStore(), timeout=1)
    with pytest.raises(ConfigError, match="no store 'nowhere'"):
        configure_limiter("api", "5/s", store="nowhere")


def test_a_file_that_is_wrong_leaves_what_was_configured(tmp_path: Path) -> None:
    configure_limiter("api", "5/minute")
    with pytest.raises(ConfigError):
        configure(tmp_path / "missing.toml")
    assert get_limiter("api").try_acquire().limit == 5


def test_numbers_change_and_the_state_stays() -> None:
    configure_limiter("api", "4/minute")
    api = get_limiter("api")
    for _ in range(4):
        api.try_acquire()
    configure_limiter("api", "5/minute")
    assert api is get_limiter("api")
    assert api.try_acquire().limit == 5
    assert api.metrics().allowed == 4  # time is owed: 60 s, and so there is no room for a fifth yet


def test_a_store_changes_under_its_limiters() -> None:
    configure_limiter("api", "1/minute")
    api = get_limiter("api")
    assert api.try_acquire()
    assert not api.try_acquire()
    configure_store("main", store=MemoryStore())
    assert api.try_acquire()


def test_a_store_in_memory_is_the_same_after_a_file_was_read_again() -> None:
    document: dict[str, Any] = {"stores": {"here": {"engine": "memory"}}, "limiters": {"api": {"limit": "1/minute"}}}
    configure(document)
    assert get_limiter("api").try_acquire()
    configure(document | {"limiters": {"api": {"limit": "1/minute", "timeout": 3}}})
    assert not get_limiter("api").try_acquire()


def test_processes_share_what_a_file_names(valkey_url: str, prefix: str) -> None:
    configure(
        {
            "stores": {"main": {"url": valkey_url, "key_prefix": prefix, "timeout": "5s"}},
            "limiters": {"api": {"limit": "2/minute"}},
        }
    )
    with headgate.Limiter("2/minute", store=valkey_url, prefix=prefix, name="api") as another:
        assert another.try_acquire("global")
    assert get_limiter("api").try_acquire()
    assert not get_limiter("api").try_acquire()


async def test_connections_are_closed_and_nothing_is_configured_any_more(valkey_url: str, prefix: str) -> None:
    configure({"stores": {"main": {"url": valkey_url, "prefix": prefix}}, "limiters": {"api": {"limit": "2/minute"}}})
    api = get_limiter("api")
    assert await acquire("api")
    await aclose()
    with pytest.raises(ConfigError, match="configure"):
        get_limiter("api")
    assert api.try_acquire().remaining == 0  # who has it goes on
    close()


def test_a_turn_goes_by_the_configuration_of_when_it_is_asked_for() -> None:
    configure_limiter("api", "1/minute")
    turn = acquire("api", "user:42")
    configure_limiter(
        "api", limits={"requests": "1/minute", "tokens": "7/minute"}, tiers={"pro": {"tokens": "9/minute"}}
    )
    assert turn.wait().limit == 1


def test_several_threads_that_come_first_count_in_one_store() -> None:
    configure({"stores": {"here": {"engine": "memory"}}, "limiters": {"api": {"limit": "5/day"}}})
    begin = threading.Barrier(8)
    admitted: list[bool] = []

    def work() -> None:
        begin.wait()
        admitted.extend(bool(get_limiter("api").try_acquire()) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 5


RATE_SYNC = {
    "engine": "redis",
    "url": "redis://localhost:6379/0",
    "db": 0,
    "password": "${REDIS_PASSWORD:-}",
    "key_prefix": "rate_limit",
}
"""The words that mean the same here."""


def test_the_words_of_rate_sync_are_understood() -> None:
    configure_store("redis", strategy="redis", url="redis://localhost:6379/0", key_prefix="myapp_limits")
    configure_limiter("api", store_id="redis", rate_per_second=100.0, max_concurrent=50, timeout=30.0)
    assert get_limiter("api").settings.timeout == 30.0
    configure({"stores": {"redis": RATE_SYNC}, "limiters": {"api": {"rate_per_second": 100.0}}})


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("pool_min_size", "leave it out"),
        ("pool_max_size", "leave it out"),
        ("timing_margin_ms", "leave it out"),
        ("socket_timeout", "write timeout instead"),
        ("socket_connect_timeout", "write timeout instead"),
    ],
)
def test_its_other_words_are_answered_with_ours(word: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[stores\.redis\], {word}: {instead}"):
        configure({"stores": {"redis": {**RATE_SYNC, word: 2}}})

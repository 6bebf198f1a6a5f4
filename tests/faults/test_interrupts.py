"""Exceptions that signals raise anywhere in a call, as Ctrl-C, Celery and gunicorn do: the next goes on as ever."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from headgate import FixedWindow, Lease, Limit, Limiter, ManualClock, MemoryStore, SlidingLog, TokenBucket
from headgate.hits import Group, Hit
from headgate.stores.redis import RedisStore
from tests.faults.workers import PATIENT

SECONDS = 1.0


class Interruption(BaseException):
    """What a signal handler raises."""


class Alarm:
    """Interrupts the main thread, wherever it is, while it is armed; once each time that it is armed."""

    def __init__(self) -> None:
        self.is_armed = False

    def ring(self, *_: object) -> None:
        if self.is_armed:
            self.is_armed = False
            raise Interruption


def is_to_go_on(times: int, until: float) -> bool:
    """Is there time left? On a busy machine, whose alarms are rare, until some of them have interrupted us."""
    now = time.monotonic()
    return now < until or (times <= 10 and now < until + PATIENT)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    made = Alarm()
    former = signal.signal(signal.SIGPROF, made.ring)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    yield made
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, former)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may strike in somebody's __del__
@pytest.mark.parametrize("kind", ["memory", "memory windows", "valkey", "valkey windows", "leased", "leased windows"])
def test_an_interrupt_at_any_place_leaves_nothing_held(kind: str, valkey_url: str, prefix: str, alarm: Alarm) -> None:
    limit = "fixed-window 100_000_000/day" if "windows" in kind else "100_000_000/day"
    store: Any = MemoryStore() if "memory" in kind else RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    options: dict[str, Any] = {"lease": Lease(max_tokens=50)} if "leased" in kind else {}
    limiter = Limiter(limit, store=store, on_outage="raise", **options)
    limiter.try_acquire("k")
    times, until = 0, time.monotonic() + SECONDS
    while is_to_go_on(times, until):
        try:
            while is_to_go_on(times, until):
                alarm.is_armed = True
                limiter.try_acquire("k")
                alarm.is_armed = False
        except Interruption:
            times += 1
    assert times > 10
    began = time.monotonic()
    assert limiter.try_acquire("k")
    assert time.monotonic() - began < PATIENT / 2  # nobody waits for somebody who is not there
    limiter.close()
    store.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("limit", [TokenBucket(1_000), FixedWindow(3, per=0.01), SlidingLog(3, per=0.01)], ids=str)
def test_an_interrupt_leaves_no_entry_of_the_memory_store_behind(limit: Limit, alarm: Alarm) -> None:
    store = MemoryStore(max_entries=100)
    limiter = Limiter(limit, store=store, name="n")
    number = times = 0
    until = time.monotonic() + SECONDS
    while is_to_go_on(times, until):
        try:
            while is_to_go_on(times, until):
                number += 1
                alarm.is_armed = True
                limiter.try_acquire(f"k{number % 1_000}")
                alarm.is_armed = False
        except Interruption:
            times += 1
        finally:
            alarm.is_armed = False  # were anything else raised, pytest would be interrupted
    assert times > 10
    assert sum(len(table.entries) for table in store._tables.values()) <= len(store) <= 100


class Struck(deque[tuple[int, int]]):
    """Entries of a log. A signal comes in with each change, as soon as it is made: the interpreter looks no sooner."""

    is_armed = False

    def append(self, entry: tuple[int, int]) -> None:
        super().append(entry)
        if self.is_armed:
            raise Interruption

    def popleft(self) -> tuple[int, int]:
        entry = super().popleft()
        if self.is_armed:
            raise Interruption
        return entry


@pytest.mark.parametrize("is_lone", [True, False])
def test_an_interrupt_leaves_the_sum_of_a_log_right(is_lone: bool) -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    limiter = Limiter("sliding-log 5/minute", store=store, name="n")
    limiter.try_acquire("k", 2)
    ((log, _),) = [entry for table in store._tables.values() for entry in table.entries.values()]
    log.entries = Struck(log.entries)
    for passed_s in (30, 30, 0, 29, 2):
        clock.advance(seconds=passed_s)
        log.entries.is_armed = True
        with suppress(Interruption):
            limiter.try_acquire("k") if is_lone else store.decide([Group((Hit(SlidingLog(5, 60), "k", "n"),))])
        log.entries.is_armed = False
        assert log.total == sum(cost for _, cost in log.entries)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_group_over_several_slots_gives_nothing_back_twice(
    cluster_url: str, prefix: str, alarm: Alarm
) -> None:
    """Every other request is denied by the last limit that is asked, and gives back what it took of the others."""
    store = RedisStore(cluster_url, prefix=prefix, timeout=PATIENT, remember_denials=0)
    limiter = Limiter({"user": "1_000_000/day", "all": "fixed-window 2_000_000/day"}, store=store, on_outage="raise")
    spent = times = 0
    until = time.monotonic() + SECONDS
    while is_to_go_on(times, until):
        try:
            while is_to_go_on(times, until):
                alarm.is_armed = True
                is_admitted = bool(limiter.try_acquire({"user": "u", "all": "*"}))
                spent += is_admitted
                limiter.try_acquire({"user": "u", "all": "*"}, {"user": 1, "all": 2_000_000})
                alarm.is_armed = False
        except Interruption:
            times += 1
    assert times > 10
    lasted = time.monotonic() - until + SECONDS
    began = time.monotonic()
    assert limiter.try_acquire({"user": "u", "all": "*"})
    assert time.monotonic() - began < PATIENT / 2
    by_user, by_all = _spent(limiter)
    earned = 12 * (time.monotonic() - began + lasted + SECONDS)  # by the bucket, at 11.6 tokens per second
    assert by_user >= spent + 1 - earned
    assert by_all >= spent + 1
    store.close()


def _spent(limiter: Limiter) -> tuple[int, int]:
    """What is missing of both limits."""
    told = limiter.peek({"user": "u", "all": "*"}, 0)
    left = [
        hit.limit.remaining(facts, now_us)
        for hit, facts, now_us in zip(told.group.hits, told.facts, told.instants_us, strict=True)
    ]
    return 1_000_000 - left[0], 2_000_000 - left[1]

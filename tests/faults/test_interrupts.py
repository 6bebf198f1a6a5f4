"""Exceptions that signals raise anywhere in a call, as Ctrl-C, Celery and gunicorn do: the next goes on as ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate import Concurrency, FixedWindow, Lease, Limit, Limiter, MemoryStore, SlidingLog, TokenBucket
from headgate.stores.nats import NatsStore
from headgate.stores.postgres import PostgresStore
from headgate.stores.redis import RedisStore
from headgate.stores.sqlite import SqliteStore
from tests.alarms import beating
from tests.faults.workers import PATIENT
from tests.servers import eventually

SECONDS = 1.0
TIMES = 20
"""How often a test is interrupted at least: the alarm counts our own processor time, which a busy machine cuts
short."""


def goes_on(began: float, times: int) -> bool:
    """Has a test not been interrupted often enough, or not gone on for long enough?"""
    return time.monotonic() - began < (SECONDS if times > TIMES else 60 * SECONDS)


KINDS = [
    f"{store}{windows}" for store in ("memory", "valkey", "sqlite", "postgres", "nats") for windows in ("", " windows")
]


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


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    made = Alarm()
    former = signal.signal(signal.SIGPROF, made.ring)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    yield made
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, former)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may strike in somebody's __del__
@pytest.mark.parametrize("kind", [*KINDS, "leased", "leased windows"])
def test_an_interrupt_at_any_place_leaves_nothing_held(
    kind: str, valkey_url: str, prefix: str, tmp_path: Path, alarm: Alarm, request: pytest.FixtureRequest
) -> None:
    limit = "fixed-window 100_000_000/day" if "windows" in kind else "100_000_000/day"
    store: Any = MemoryStore() if "memory" in kind else RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    if "sqlite" in kind:
        store = SqliteStore(tmp_path / "limits.db", timeout=PATIENT)
    elif "postgres" in kind:
        store = PostgresStore(request.getfixturevalue("postgres_url"), prefix=prefix, timeout=PATIENT)
    elif "nats" in kind:
        store = NatsStore(request.getfixturevalue("nats_url"), prefix=prefix, timeout=PATIENT)
    options: dict[str, Any] = {"lease": Lease(max_tokens=50)} if "leased" in kind else {}
    limiter = Limiter(limit, store=store, on_outage="raise", **options)
    limiter.try_acquire("k")
    times, began = 0, time.monotonic()
    while goes_on(began, times):
        try:
            while goes_on(began, times):
                alarm.is_armed = True
                limiter.try_acquire("k")
                alarm.is_armed = False
        except Interruption:
            times += 1
    assert times > TIMES
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
    began = time.monotonic()
    while goes_on(began, times):
        try:
            while goes_on(began, times):
                number += 1
                alarm.is_armed = True
                limiter.try_acquire(f"k{number % 1_000}")
                alarm.is_armed = False
        except Interruption:
            times += 1
        finally:
            alarm.is_armed = False  # were anything else raised, pytest would be interrupted
    assert times > TIMES
    assert sum(len(table.entries) for table in store._tables.all()) <= len(store) <= 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_group_over_several_slots_gives_nothing_back_twice(
    cluster_url: str, prefix: str, alarm: Alarm
) -> None:
    """Every other request is denied by the last limit that is asked, and gives back what it took of the others."""
    store = RedisStore(cluster_url, prefix=prefix, timeout=PATIENT, remember_denials=0)
    limiter = Limiter({"user": "1_000_000/day", "all": "fixed-window 2_000_000/day"}, store=store, on_outage="raise")
    spent = times = 0
    began = time.monotonic()
    while goes_on(began, times):
        try:
            while goes_on(began, times):
                alarm.is_armed = True
                is_admitted = bool(limiter.try_acquire({"user": "u", "all": "*"}))
                spent += is_admitted
                limiter.try_acquire({"user": "u", "all": "*"}, {"user": 1, "all": 2_000_000})
                alarm.is_armed = False
        except Interruption:
            times += 1
    assert times > TIMES
    asked = time.monotonic()
    assert limiter.try_acquire({"user": "u", "all": "*"})
    assert time.monotonic() - asked < PATIENT / 2
    by_user, by_all = _spent(limiter)
    earned = 12 * (time.monotonic() - began + SECONDS)  # by the bucket, at 11.6 tokens per second
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_slots_of_holds_that_were_interrupted_anywhere_come_back(valkey_url: str, prefix: str) -> None:
    """As it was reported: an alarm ends blocks that hold a slot, one after the other, at ever other moments."""
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter(Concurrency(20, ttl=0.5), store=store)

    def ring(*_: object) -> None:
        raise Interruption

    former = signal.signal(signal.SIGALRM, ring)
    times, until = 0, time.monotonic() + 60
    try:
        while times < 300 and time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.000013 * (times % 200), 0.05)
                times += 1
                while True:
                    with limiter.hold("k"):
                        pass
            except Interruption:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert times == 300
    eventually(lambda: limiter.peek("k", 0).remaining == 20, "all slots come back")
    eventually(lambda: not renewers(), "nobody renews what nobody holds")
    store.close()


def renewers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "headgate-renewer"]


def test_a_handler_asks_while_its_thread_travels_with_others(valkey_url: str, prefix: str) -> None:
    """Its thread may lead, wait to lead, or wait for an answer: the handler must wait for none of that."""
    store = RedisStore(valkey_url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter("fixed-window 1_000_000/day", store=store, on_outage="raise")
    spent, is_over = [0] * 9, threading.Event()

    def work(number: int) -> None:
        while not is_over.is_set():
            spent[number] += limiter.try_acquire("k").allowed

    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += limiter.try_acquire("k").allowed

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    began = time.monotonic()
    try:
        for thread in threads:
            thread.start()
        with beating(beat, 0.001):
            while beats < 200 and time.monotonic() - began < 60:
                spent[8] += limiter.try_acquire("k").allowed
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert beats >= 200
    assert limiter.peek("k", 0).remaining == 1_000_000 - sum(spent) - beats
    store.close()

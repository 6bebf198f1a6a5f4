"""What the processes of these tests do. Each is called as `worker(start, ...)` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier, Event
from typing import Any, NamedTuple

from headgate import AsyncLimiter, Decision, Limiter, Store, StoreOutage
from headgate.plans.commands import Command, Pause
from headgate.stores.registry import open_store

PATIENT = 30.0
"""A deadline for work that is not about deadlines."""


class Seen(NamedTuple):
    """What one process saw of a crowd's decisions, by the store's clock in microseconds."""

    admitted: list[int]
    """When each request was admitted."""
    denied: tuple[int, int]
    """When the first and the last one were denied; zeros if none was."""
    asked: int


def seen(decisions: list[tuple[bool, int]]) -> Seen:
    """Add up what was decided."""
    denied = [at for allowed, at in decisions if not allowed]
    return Seen(
        sorted(at for allowed, at in decisions if allowed),
        (min(denied, default=0), max(denied, default=0)),
        len(decisions),
    )


def hammer_with_threads(start: Barrier, url: str, prefix: str, limit: str, threads: int, seconds: float) -> Seen:
    """Ask as fast as threads can."""
    store = open_store(url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter(limit, store=store, on_outage="raise")
    limiter.peek("warm")
    start.wait()
    end = time.monotonic() + seconds

    def ask() -> list[tuple[bool, int]]:
        decisions = []
        while time.monotonic() < end:
            decision = limiter.try_acquire("k")
            decisions.append((decision.allowed, decision.now_us))
        return decisions

    with ThreadPoolExecutor(threads) as pool:
        asked = [pool.submit(ask) for _ in range(threads)]
        decisions = [decision for future in asked for decision in future.result()]
    store.close()
    return seen(decisions)


def hammer_with_tasks(start: Barrier, url: str, prefix: str, limit: str, tasks: int, seconds: float) -> Seen:
    """Ask as fast as tasks can."""

    async def run() -> Seen:
        decisions: list[tuple[bool, int]] = []
        store = open_store(url, prefix=prefix, timeout=PATIENT)
        limiter = AsyncLimiter(limit, store=store, on_outage="raise")
        await limiter.peek("warm")
        start.wait()
        end = time.monotonic() + seconds

        async def ask() -> None:
            while time.monotonic() < end:
                decision = await limiter.try_acquire("k")
                decisions.append((decision.allowed, decision.now_us))

        await asyncio.gather(*(ask() for _ in range(tasks)))
        await store.aclose()
        return seen(decisions)

    return asyncio.run(run())


class Turn(NamedTuple):
    """One waiter's turn, in microseconds since the epoch."""

    arrived: int
    """When the store gave it its place."""
    turn: int
    """When its turn was to be."""
    woken: int
    """When it went on, by the machine's clock."""


Penalized = tuple[bool, int, int, int]
"""Whether a request was allowed, when, and until when its key was blocked then (0: it was not), and how many denials
counted; by the store's clock."""


def be_denied(start: Barrier, url: str, prefix: str, limit: str, penalty: str, seconds: float) -> list[Penalized]:
    """Ask as fast as four threads can, of a limit with a penalty. What the store decided."""
    store = open_store(url, prefix=prefix, timeout=PATIENT)
    limiter = Limiter(limit, store=store, name="n", on_outage="raise", penalty=penalty)
    limiter.peek("warm")
    start.wait()
    end = time.monotonic() + seconds

    def ask() -> list[Penalized]:
        told = []
        while time.monotonic() < end:
            decision = limiter.try_acquire("k")
            if decision.source == "store":
                blocked_until_us, counted, _ = decision.facts[-1]
                told.append((decision.allowed, decision.now_us, blocked_until_us, counted))
        return told

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        told = [one for future in asked for one in future.result()]
    store.close()
    return told


def turn(decision: Decision) -> Turn:
    """Note when a waiter was woken, now."""
    return Turn(decision.now_us, decision.now_us + decision.wait_us, time.time_ns() // 1_000)


def wait_in_threads(start: Barrier, url: str, limit: str, waiters: int) -> list[Turn]:
    """Each thread waits for one turn."""
    store = open_store(url, timeout=PATIENT)
    limiter = Limiter(limit, store=store, on_outage="raise")
    limiter.peek("warm")
    start.wait()
    with ThreadPoolExecutor(waiters) as pool:
        asked = [pool.submit(lambda: turn(limiter.acquire("k"))) for _ in range(waiters)]
        turns = [future.result() for future in asked]
    store.close()
    return turns


def wait_in_tasks(start: Barrier, url: str, limit: str, waiters: int) -> list[Turn]:
    """Each task waits for one turn."""

    async def run() -> list[Turn]:
        store = open_store(url, timeout=PATIENT)
        limiter = AsyncLimiter(limit, store=store, on_outage="raise")
        await limiter.peek("warm")
        start.wait()

        async def wait() -> Turn:
            return turn(await limiter.acquire("k"))

        turns = await asyncio.gather(*(wait() for _ in range(waiters)))
        await store.aclose()
        return turns

    return asyncio.run(run())


def hold_until_killed(url: str, prefix: str, limit: str, is_inside: Event, *, awaits: bool) -> None:
    """Hold a slot, say so, and stay inside."""
    store = open_store(url, prefix=prefix, timeout=PATIENT)
    if awaits:

        async def hold() -> None:
            async with AsyncLimiter(limit, store=store, on_outage="raise").hold("k"):
                is_inside.set()
                await asyncio.sleep(600)

        asyncio.run(hold())
    with Limiter(limit, store=store, on_outage="raise").hold("k"):
        is_inside.set()
        time.sleep(600)


class Sleeper(Limiter):
    """A limiter that says when it begins to sleep: by then it knows its turn."""

    def __init__(self, limit: str, store: Store, sleeps: Any) -> None:
        super().__init__(limit, store=store, on_outage="raise")
        self._sleeps = sleeps

    def _send(self, command: Command) -> Any:
        if isinstance(command, Pause):
            self._sleeps.set()
        return super()._send(command)


def wait_until_killed(url: str, prefix: str, limit: str, sleeps: Any) -> None:
    """Wait for a turn that is far away; whatever a signal raises ends it. `sleeps` is an event of multiprocessing's."""
    store = open_store(url, prefix=prefix, timeout=PATIENT)
    try:
        Sleeper(limit, store, sleeps).acquire("k")
    except KeyboardInterrupt:
        os._exit(42)


class Traffic:
    """Threads that ask until they are told to stop. It counts what they get."""

    def __init__(self, limiter: Limiter, threads: int = 4) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.allowed = 0
        self.denied = 0
        self.outages = 0
        self.other_errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """How many answers the store gave."""
        return self.allowed + self.denied

    def _ask(self) -> None:
        while not self._is_over.is_set():
            try:
                decision = self._limiter.try_acquire("k")
            except StoreOutage:
                with self._lock:
                    self.outages += 1
            except BaseException as error:
                self.other_errors.append(error)
                return
            else:
                with self._lock:
                    if decision:
                        self.allowed += 1
                    else:
                        self.denied += 1

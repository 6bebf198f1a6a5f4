"""Traffic of threads and tasks on one key, while something befalls the store: what each caller saw, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from headgate import AsyncLimiter, Limiter, StoreOutage
from headgate.stores import Store
from tests.servers import eventually

CAPACITY = 10_000_000
LIMIT = f"fixed-window {CAPACITY}/year"
"""It counts every spend, and nothing comes back meanwhile."""
PAUSE_S = 0.001
"""After an outage, which may come without waiting for anything, so that what is to end it gets to run."""


class Call(NamedTuple):
    """One call."""

    began_s: float
    ended_s: float
    used: int | None
    """The count in the store after it; None in an outage."""
    problem: str
    """What the outage said."""


class Traffic:
    """What callers ask for one after the other, some in threads and some in tasks, until it is over."""

    def __init__(self, store: Store, *, threads: int = 2, tasks: int = 8) -> None:
        self.calls: list[Call] = []
        self._store = store
        self._is_over = threading.Event()
        self._blocking = Limiter(LIMIT, store=store, name="traffic", on_outage="raise")
        self._awaited = AsyncLimiter(LIMIT, store=store, name="traffic", on_outage="raise")
        self.faults: list[BaseException] = []
        """What callers got that is no outage. There must be none."""
        self._threads = [threading.Thread(target=self._watched(self._ask)) for _ in range(threads)]
        self._threads.append(threading.Thread(target=self._watched(lambda: asyncio.run(self._ask_in_tasks(tasks)))))

    def _watched(self, ask: Callable[[], None]) -> Callable[[], None]:
        def watched() -> None:
            try:
                ask()
            except BaseException as fault:
                self.faults.append(fault)

        return watched

    def _ask(self) -> None:
        while not self._is_over.is_set():
            began_s, used, problem = time.monotonic(), None, ""
            try:
                used = CAPACITY - self._blocking.try_acquire("k").remaining
            except StoreOutage as outage:
                problem = str(outage)
            self.calls.append(Call(began_s, time.monotonic(), used, problem))
            if used is None:
                time.sleep(PAUSE_S)

    async def _ask_in_tasks(self, tasks: int) -> None:
        async def ask() -> None:
            while not self._is_over.is_set():
                began_s, used, problem = time.monotonic(), None, ""
                try:
                    used = CAPACITY - (await self._awaited.try_acquire("k")).remaining
                except StoreOutage as outage:
                    problem = str(outage)
                self.calls.append(Call(began_s, time.monotonic(), used, problem))
                if used is None:
                    await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(ask() for _ in range(tasks)))
        await self._store.aclose()

    def count(self) -> int:
        """How many spends the store knows of."""
        return CAPACITY - self._blocking.peek("k").remaining

    @property
    def answered(self) -> list[Call]:
        return [call for call in list(self.calls) if call.used is not None]

    @property
    def outages(self) -> list[Call]:
        return [call for call in list(self.calls) if call.used is None]

    @property
    def longest_s(self) -> float:
        return max(call.ended_s - call.began_s for call in self.calls)

    def are_all_answered_since(self, moment_s: float, calls: int = 200) -> bool:
        """Have so many calls been made since then, and all of the last ones been answered?"""
        since = [call for call in list(self.calls) if call.began_s > moment_s]
        return len(since) > calls and all(call.used is not None for call in since[-calls:])

    def flows(self) -> None:
        """Wait until all is normal."""
        since_s = time.monotonic()
        eventually(lambda: self.are_all_answered_since(since_s), "all callers are answered")


@contextmanager
def traffic(store: Store) -> Iterator[Traffic]:
    """Traffic until the end, which is when all callers have come home."""
    flowing = Traffic(store)
    for thread in flowing._threads:
        thread.start()
    try:
        yield flowing
    finally:
        flowing._is_over.set()
        for thread in flowing._threads:
            thread.join()
    assert flowing.faults == []

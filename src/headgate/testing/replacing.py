"""Limiters under test: none of them limits, or all of them decide on one memory store, by a clock that the test moves.

While a block lasts, methods of the limiter classes are exchanged. Limiters that exist already follow too, such as those
of the modules under test, and production code never asks whether it is being tested. It holds for the whole process,
whatever the thread: run tests that use it in processes of their own, not in threads.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from headgate.clock import ManualClock, system_clock
from headgate.decision import Decision
from headgate.hits import Group
from headgate.limiter import AsyncLimiter, Limiter
from headgate.limiter.any import AnyLimiter
from headgate.limiter.holds import Hold
from headgate.plans.groups import renew_groups
from headgate.stores.memory import MemoryStore

_YIELDS: Final = 16
"""How often a waiting task lets the others run before it looks who is next: more than a call takes to begin to wait."""
_ABSENT: Final = object()


@contextmanager
def limits_off() -> Iterator[None]:
    """Every limiter in the process admits everything while the block lasts, and no store is asked.

    >>> from headgate import Limiter
    >>> limiter = Limiter("1/hour", store="redis://not.there")
    >>> with limits_off():
    ...     [bool(limiter.try_acquire("ann")) for _ in range(3)]
    [True, True, True]
    """
    with _exchanged(_World()):
        yield


@contextmanager
def deterministic() -> Iterator[ManualClock]:
    """Every limiter in the process decides on one fresh memory store while the block lasts, by the clock that is handed
    out.

    A waiting `acquire` moves the clock on to its turn instead of sleeping. Of several tasks that wait, the one whose
    turn comes first goes first. Slots that are held are renewed, however far the clock jumps.

    >>> from headgate import Limiter
    >>> limiter = Limiter("1/hour", store="redis://not.there")
    >>> with deterministic() as clock:
    ...     first, second = limiter.try_acquire("ann"), limiter.try_acquire("ann")
    ...     clock.advance(seconds=3600)
    ...     bool(first), second.retry_after, bool(limiter.try_acquire("ann"))
    (True, 3600.0, True)
    """
    world = _TimedWorld()
    with _exchanged(world):
        yield world.clock


class _World:
    """What limiters meet in place of their stores: here, one in which nobody has ever asked before."""

    def decide(self, groups: Sequence[Group]) -> list[Decision]:
        return [_admit(group) for group in groups]

    def hold(self, hold: Hold, groups: list[Group]) -> None:
        """Slots are held from now on."""

    def release(self, hold: Hold) -> None:
        """They no longer are."""

    def sleep(self, duration_us: int) -> int:
        return duration_us

    async def doze(self, duration_us: int) -> int:
        return duration_us


def _admit(group: Group) -> Decision:
    now_us = system_clock()
    facts = []
    for limit, _, _, cost, holder, *_ in group.hits:
        _, judged = limit.algorithm.judge(None, now_us, limit.arguments(cost, now_us, holder), 0)
        facts.append(limit.algorithm.keep(judged))
    return Decision(group, now_us, True, tuple(facts), "local")


class _TimedWorld(_World):
    """A memory store, and a clock that waiting moves on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._store = MemoryStore(self.clock)
        self._lock = threading.RLock()
        self._held: dict[Hold, list[Group]] = {}
        self._dozing: set[tuple[int, int]] = set()
        self._numbers = itertools.count()

    def decide(self, groups: Sequence[Group]) -> list[Decision]:
        with self._lock:
            self._renew()
            return self._store.decide(groups)

    def hold(self, hold: Hold, groups: list[Group]) -> None:
        with self._lock:
            self._held[hold] = groups

    def release(self, hold: Hold) -> None:
        with self._lock:
            del self._held[hold]

    def sleep(self, duration_us: int) -> int:
        with self._lock:
            self.clock.advance(microseconds=duration_us)
        return duration_us

    async def doze(self, duration_us: int) -> int:
        started_us = self.clock()
        place = (started_us + duration_us, next(self._numbers))
        self._dozing.add(place)
        try:
            while True:
                for _ in range(_YIELDS):
                    await asyncio.sleep(0)
                if min(self._dozing) == place:
                    break
            with self._lock:
                self.clock.set(max(self.clock(), place[0]))
        finally:
            self._dozing.discard(place)
        return self.clock() - started_us

    def _renew(self) -> None:
        """What the renewals in the background would have done by now."""
        for groups in self._held.values():
            for group in groups:
                if not self._store.decide((group,))[0]:  # expired in one jump: nobody has asked since
                    self._store.decide((group._replace(action="spend"),))


_try_acquire: Final = Limiter.try_acquire


@contextmanager
def _exchanged(world: _World) -> Iterator[None]:
    """Let all limiters live in another world."""

    def ask(self: Any, group: Group) -> Decision:
        decision = world.decide((group,))[0]
        if self._on_decision is not None:
            self._tell(decision)
        return decision

    async def ask_async(self: Any, group: Group) -> Decision:
        return ask(self, group)

    def ask_store(self: Any, groups: list[Group]) -> list[Decision]:
        return world.decide(groups)

    async def ask_store_async(self: Any, groups: list[Group]) -> list[Decision]:
        return world.decide(groups)

    def pause(self: Any, duration_us: int) -> int:
        return world.sleep(duration_us)

    async def pause_async(self: Any, duration_us: int) -> int:
        return await world.doze(duration_us)

    @contextmanager
    def holding(self: Any, acquire: Callable[[], Decision]) -> Iterator[Hold]:
        hold = Hold(acquire())
        groups = renew_groups(hold.decision)
        world.hold(hold, groups)
        try:
            yield hold
        finally:
            world.release(hold)
            if groups:
                self._release(hold.decision)

    @asynccontextmanager
    async def holding_async(self: Any, acquire: Callable[[], Awaitable[Decision]]) -> AsyncIterator[Hold]:
        hold = Hold(await acquire())
        groups = renew_groups(hold.decision)
        world.hold(hold, groups)
        try:
            yield hold
        finally:
            world.release(hold)
            if groups:
                await self._release(hold.decision)

    def keep_for_afterwards(self: Any, lone: object) -> None:
        vars(self)["_single"] = lone

    no_short_way = property(lambda _: None, keep_for_afterwards)  # past `_ask`
    whole_way = property(lambda limiter: functools.partial(_try_acquire, limiter))  # past an instance's own
    exchanges: list[tuple[type, str, object]] = [
        (AnyLimiter, "_single", no_short_way),
        (Limiter, "try_acquire", whole_way),
        (Limiter, "_ask", ask),
        (Limiter, "_ask_store", ask_store),
        (Limiter, "_pause", pause),
        (Limiter, "_holding", holding),
        (AsyncLimiter, "_ask", ask_async),
        (AsyncLimiter, "_ask_store", ask_store_async),
        (AsyncLimiter, "_pause", pause_async),
        (AsyncLimiter, "_holding", holding_async),
    ]
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in exchanges]
    try:
        for owner, name, value in exchanges:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

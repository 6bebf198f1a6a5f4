"""Slots that are held: the handles that users see, and what renews them while they live.

Each third of a slot's life, its holder says that it lives. Blocking limiters have one daemon thread for all their
holds, asyncio limiters a task for each. What renews knows the block that holds a slot only weakly: however the block
ends, at its end or by what a signal raises anywhere, nobody renews a slot for it any more. A slot whose renewals failed
for its whole life may be somebody else's by then: it is `lost`.

This module must not know how a store is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from headgate.decision import Decision
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group
from headgate.limits import Concurrency
from headgate.plans.groups import renew_groups
from headgate.runtime.daemons import Daemon
from headgate.runtime.forks import begin_afresh_in_child
from headgate.runtime.loops import running_loop

A = TypeVar("A")
R = TypeVar("R")

logger = logging.getLogger("headgate")

RENEWALS_PER_LIFE: Final = 3
LINGER_S: Final = 0.05
"""How long a thread that renews waits for the next hold before it ends: holds often come one after the other."""


class Hold:
    """The `hold` of `with limiter.hold(...) as hold`."""

    __slots__ = ("_renewed", "decision", "is_lost")

    def __init__(self, decision: Decision) -> None:
        self.decision: Final = decision
        """The decision that admitted us."""
        self.is_lost = False
        """Did a slot expire in spite of us? Somebody else may be working by now."""
        self._renewed = time.monotonic()

    def __repr__(self) -> str:
        return f"<Hold of {self.decision.key!r}{', lost' if self.is_lost else ''}>"

    def interval(self) -> float:
        """Seconds between two renewals."""
        lives = [hit.limit.period_us for hit in self.decision.group.hits if isinstance(hit.limit, Concurrency)]
        return min(lives) / 1_000_000 / RENEWALS_PER_LIFE

    def told(self, answers: list[Decision]) -> None:
        """Take note of what the store said to a renewal."""
        if all(answers):
            self._renewed = time.monotonic()
        else:
            self._lose()

    def missed(self) -> None:
        """Take note that a renewal got no answer. After a whole life without one, the slot has expired."""
        if time.monotonic() - self._renewed >= self.interval() * RENEWALS_PER_LIFE:
            self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            logger.warning(
                "headgate: a slot of %r for %r was lost while held", self.decision.binding, self.decision.key
            )


def _nothing() -> None:
    """Do nothing."""


class Held:
    """A block's hold on its slots. It lives as long as the block does."""

    def __init__(self, hold: Hold, groups: list[Group]) -> None:
        self.hold = hold
        self.groups = groups
        self.due = time.monotonic() + hold.interval()
        """When to renew next, by `time.monotonic`."""
        self.is_over = False
        self.renewal: asyncio.Task[None] | None = None
        """The task that renews it, in an event loop."""
        self.pid = os.getpid()
        self.end: Callable[[], None] = _nothing
        """Tells who wants to hear that the slots are held no more."""

    def ends_here(self) -> bool:
        """Take note that the block ends. False in a forked process: what its parent holds is not its to release."""
        self.is_over = True
        if self.pid != os.getpid():
            return False
        self.end()
        return True


class Renews(Protocol):
    """Renews the slots that are held in blocks."""

    def add(self, held: Held, /) -> None:
        """Renew from now on, until it is over or nobody has it any more."""

    def discard(self, held: Held, /) -> None:
        """Renew no more."""


class _Block(Generic[A, R]):
    """The common part of blocks that wait for their turn and hold slots.

    :param acquire: waits for the turn.
    :param renewer: renews the slots meanwhile.
    :param release: gives the slots of a decision back.
    :param begin: tells who wants to hear that slots are held, and returns what tells that they are not any more.
    """

    def __init__(
        self,
        acquire: Callable[[], A],
        renewer: Renews,
        release: Callable[[Decision], R],
        begin: Callable[[Decision], Callable[[], None]],
    ) -> None:
        self._acquire = acquire
        self._renewer = renewer
        self._release = release
        self._begin = begin
        self._held: Held | None = None

    def _recreate_cm(self) -> Self:
        return type(self)(self._acquire, self._renewer, self._release, self._begin)

    def _hold(self, decision: Decision) -> Hold:
        """Hold the slots of a decision from now on."""
        hold = Hold(decision)
        groups = renew_groups(decision)
        if groups:
            self._held = Held(hold, groups)
            self._renewer.add(self._held)
            self._held.end = self._begin(decision)
        return hold

    def _check_unused(self) -> None:
        if self._held is not None:
            raise InvalidUse("this block holds a slot already: call hold() for each block")


class Holding(_Block[Decision, None], contextlib.ContextDecorator):
    """A block of a blocking limiter."""

    def __enter__(self) -> Hold:
        self._check_unused()
        return self._hold(self._acquire())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is not None and held.ends_here():
            self._renewer.discard(held)
            self._release(held.hold.decision)


class AsyncHolding(_Block[Awaitable[Decision], Awaitable[None]], contextlib.AsyncContextDecorator):
    """A block of an asyncio limiter."""

    async def __aenter__(self) -> Hold:
        self._check_unused()
        return self._hold(await self._acquire())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        ends_here = held.ends_here()
        self._renewer.discard(held)
        if ends_here:
            await self._release(held.hold.decision)


class AsyncRenewer:
    """Renews the holds of an asyncio limiter, each in a task of its own."""

    def __init__(self, ask: Callable[[list[Group]], Awaitable[list[Decision]]]) -> None:
        self._ask = ask

    def add(self, held: Held) -> None:
        """Renew from now on, until it is over or nobody has it any more.

        :raises InvalidUse: if no event loop runs here.
        """
        running_loop()
        held.renewal = asyncio.create_task(renew(weakref.ref(held), self._ask), name="headgate-renewal")

    def discard(self, held: Held) -> None:
        """Renew no more."""
        if held.renewal is not None:
            held.renewal.cancel()


class Renewer:
    """Renews the holds of a blocking limiter, in one thread and one round trip.

    No lock: what is shared is changed in single steps, so that a signal's handler may come in anywhere.
    """

    def __init__(self, ask: Callable[[list[Group]], list[Decision]]) -> None:
        self._ask = ask
        self._daemon = Daemon("headgate-renewer", self._run)
        self.begin()
        begin_afresh_in_child(self, Renewer.begin)

    def begin(self) -> None:
        """Begin afresh: in a forked process, what is held is our parent's."""
        self._coming: deque[weakref.ref[Held]] = deque()
        """Those which the thread has not seen yet."""
        self._running: dict[str, object] = {}
        """Which thread renews, if one does: taken in one step."""
        self._wakes_at = 0.0
        """When the thread looks again by itself, by `time.monotonic`."""
        self._held: set[int] = set()
        """The identities of those that are held; or were, where nobody said that their block has ended."""
        self._lingers = False
        """Does the thread only wait a little for the next one, before it ends?"""

    def add(self, held: Held) -> None:
        """Renew from now on, until it is over or nobody has it any more."""
        self._held.add(id(held))
        self._coming.append(weakref.ref(held))
        if not self._running:
            self._daemon.start()  # where it cannot, the slot expires in its time
        elif held.due < self._wakes_at:
            self._daemon.ring()

    def discard(self, held: Held) -> None:
        """Renew no more. The thread ends soon after the last one."""
        self._held.discard(id(held))
        if not self._held and not self._lingers:
            self._daemon.ring()

    def _run(self) -> None:
        mine = object()
        while self._coming and self._running.setdefault("thread", mine) is mine:
            try:
                self._renew_all()
            finally:
                self._running.pop("thread", None)
            # Whoever came in just now found a thread at work.

    def _renew_all(self) -> None:
        """Renew until nothing is held any more."""
        known: list[weakref.ref[Held]] = []
        self._lingers = False
        while True:
            while self._coming:
                known.append(self._coming.popleft())
            known = [reference for reference in known if _living(reference) is not None]
            now = time.monotonic()
            if known:
                self._lingers = False
                self._renew([held for held in map(_living, known) if held is not None and held.due <= now], now)
                self._wakes_at = min((held.due for held in map(_living, known) if held is not None), default=now)
            elif self._lingers:
                self._held.clear()
                return
            else:
                self._lingers, self._wakes_at = True, now + LINGER_S
            is_idle = not self._coming or self._lingers
            if is_idle and not self._daemon.sleep(self._wakes_at - time.monotonic()):
                return

    def _renew(self, due: list[Held], now: float) -> None:
        if not due:
            return
        for held in due:
            held.due = now + held.hold.interval()
        try:
            answers = iter(self._ask([group for held in due for group in held.groups]))
        except StoreOutage as outage:
            logger.info("headgate: could not renew: %s", outage)
            for held in due:
                held.hold.missed()
            return
        for held in due:
            told = [next(answers) for _ in held.groups]
            if not held.is_over:  # released meanwhile: of course it is not held any more
                held.hold.told(told)


def _living(reference: weakref.ref[Held]) -> Held | None:
    held = reference()
    return held if held is not None and not held.is_over and not held.hold.is_lost else None


async def renew(reference: weakref.ref[Held], ask: Callable[[list[Group]], Awaitable[list[Decision]]]) -> None:
    """Renew a hold of an asyncio limiter until cancelled, or until nobody has it any more."""
    interval = 0.0
    while (held := _living(reference)) is not None:
        if interval:
            try:
                held.hold.told(await ask(held.groups))
            except StoreOutage as outage:
                logger.info("headgate: could not renew: %s", outage)
                held.hold.missed()
        interval = held.hold.interval()
        del held  # or it would live as long as we sleep
        await asyncio.sleep(interval)

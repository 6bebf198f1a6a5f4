"""Slots that are held: the handles that users see, and what renews them while they live.

Each third of a slot's life, its holder says that it lives. Blocking limiters have one daemon thread for all their
holds, which ends with the last of them; asyncio limiters have a task for each. A slot whose renewals failed for its
whole life may be somebody else's by then: it is `lost`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from headgate.decision import Decision
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.limits import Concurrency
from headgate.policy import renew_groups

logger = logging.getLogger("headgate")

RENEWALS_PER_LIFE: Final = 3


class Hold:
    """What `with limiter.hold(...) as hold` gives."""

    __slots__ = ("_due", "_renewed", "decision", "is_lost")

    def __init__(self, decision: Decision) -> None:
        self.decision: Final = decision
        """The decision that admitted us."""
        self.is_lost = False
        """Did a slot expire in spite of us? Somebody else may be working by now."""
        self._due = 0.0
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


class Renewer:
    """Renews the holds of a blocking limiter, in one thread and one trip."""

    def __init__(self, ask: Callable[[list[Group]], list[Decision]]) -> None:
        self._ask = ask
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._holds: set[Hold] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, hold: Hold) -> None:
        """Renew from now on."""
        if self._pid != os.getpid():  # in a forked process, what is held is our parent's
            self._begin()
        with self._changed:
            hold._due = time.monotonic() + hold.interval()
            self._holds.add(hold)
            if self._thread is None or not self._thread.is_alive():  # never started, or ended
                self._thread = threading.Thread(target=self._run, name="headgate-renewer", daemon=True)
                self._thread.start()
            self._changed.notify()

    def discard(self, hold: Hold) -> None:
        """Renew no more."""
        if self._pid != os.getpid():
            return
        with self._changed:
            self._holds.discard(hold)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._holds:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [hold for hold in self._holds if hold._due <= now]
                if not due:
                    self._changed.wait(min(hold._due for hold in self._holds) - now)
                    continue
                for hold in due:
                    hold._due = now + hold.interval()
            renewals = [(hold, renew_groups(hold.decision)) for hold in due]
            try:
                answers = iter(self._ask([group for _, groups in renewals for group in groups]))
            except StoreOutage as outage:
                logger.info("headgate: could not renew: %s", outage)
                for hold in due:
                    hold.missed()
                continue
            for hold, groups in renewals:
                told = [next(answers) for _ in groups]
                with self._changed:
                    is_held = hold in self._holds  # released meanwhile: of course it is not held any more
                if is_held:
                    hold.told(told)


async def renew(hold: Hold, ask: Callable[[list[Group]], Awaitable[list[Decision]]]) -> None:
    """Renew a hold of an asyncio limiter until cancelled."""
    groups = renew_groups(hold.decision)
    while not hold.is_lost:
        await asyncio.sleep(hold.interval())
        try:
            hold.told(await ask(groups))
        except StoreOutage as outage:
            logger.info("headgate: could not renew: %s", outage)
            hold.missed()

"""The one deadline of a call that asks several servers, or one of them several times.

Whoever asks one server once has its endpoint's deadline, and needs no more. This module must not know whom it is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.stores.remote.connections import overdue
from headgate.stores.remote.endpoint import Endpoint
from headgate.stores.remote.returning import GIVE_BACK_S

_WHOLE: Final = 0.98
"""From this share of it on, a deadline is as good as whole."""


class Deadline:
    """Until when a call is answered. Begins when it is made. Used by one thread or task, and those it starts.

    :param timeout_s: how long it lasts, in seconds.
    :param clock_s: tells the time.
    """

    __slots__ = ("_clock_s", "_until_s", "timeout_s")

    def __init__(self, timeout_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s: Final = timeout_s
        self._clock_s: Final = clock_s
        self._until_s: Final = clock_s() + timeout_s

    def left_s(self) -> float:
        """The seconds that are left; below 0, it is over."""
        return self._until_s - self._clock_s()

    def grace_s(self) -> float:
        """For how long the call may still wait for what it gives back."""
        return max(0.0, self.left_s() + GIVE_BACK_S)

    def decide(self, server: Endpoint, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch at a server, blocking, in what is left.

        :raises StoreOutage: if there is no answer.
        """
        left_s = self._left_for(server, groups)
        if left_s is not None and left_s <= 0:
            outage = overdue(server.name, self.timeout_s)
            outage.is_of_server = False  # nobody has asked it
            raise outage
        return server.decide(groups, left_s)

    async def decide_async(self, server: Endpoint, groups: Sequence[Group]) -> list[Decision]:
        """As `decide`. What is counted after that is given back.

        :raises StoreOutage: if there is one for any of the groups.
        """
        left_s = self._left_for(server, groups)
        if left_s is None:
            return await server.decide_async(groups)
        try:
            async with asyncio.timeout(left_s):
                return await server.decide_async(groups)
        except StoreOutage:
            raise
        except TimeoutError:
            raise overdue(server.name, self.timeout_s) from None

    def _left_for(self, server: Endpoint, groups: Sequence[Group]) -> float | None:
        """The seconds that are left to ask a server; None if its own deadline does."""
        left_s = self.left_s()
        if left_s > server.timeout_s * _WHOLE:
            return None
        if any(group.action == "give_back" for group in groups):
            return min(max(left_s, GIVE_BACK_S), left_s + GIVE_BACK_S)
        return left_s

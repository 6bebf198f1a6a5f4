"""The one deadline of a call that asks several servers, or one of them several times.

Whoever asks one server once has its endpoint's deadline, and needs no more. This module must not know whom it is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from headgate.decision import Answer, Decision
from headgate.errors import StoreOutage
from headgate.hits import Group
from headgate.stores.connections import overdue
from headgate.stores.remote.endpoint import Endpoint

_GIVE_BACK_S: Final = 0.04
"""For so long at least, a server is asked to take something back: what is not given back is lost to its key."""
_WHOLE: Final = 0.98
"""From this share of it on, a deadline is as good as whole."""


class Deadline:
    """Until when a call is answered. Begins when it is made. Used by one thread or task, and those it starts.

    :param timeout_s: how long it lasts, in seconds.
    """

    __slots__ = ("_timeout_s", "_until_s")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._until_s: Final = time.monotonic() + timeout_s

    def decide(self, server: Endpoint, groups: Sequence[Group]) -> list[Answer]:
        """Judge a batch at a server, blocking, in what is left.

        :raises StoreOutage: if there is no answer.
        """
        left_s = self._left_s(groups)
        if left_s is not None and left_s <= 0:
            outage = overdue(server.name, self._timeout_s)
            outage.is_of_server = False  # nobody has asked it
            raise outage
        return server.decide(groups, left_s)

    async def decide_async(self, server: Endpoint, groups: Sequence[Group]) -> list[Decision]:
        """As `decide`. What is counted after that is given back.

        :raises StoreOutage: if there is one for any of the groups.
        """
        left_s = self._left_s(groups)
        if left_s is None:
            return await server.decide_async(groups)
        try:
            async with asyncio.timeout(left_s):
                return await server.decide_async(groups)
        except StoreOutage:
            raise
        except TimeoutError:
            raise overdue(server.name, self._timeout_s) from None

    def _left_s(self, groups: Sequence[Group]) -> float | None:
        """The seconds that are left; None if they are as good as all, and the server's own deadline does."""
        left_s = self._until_s - time.monotonic()
        if left_s > self._timeout_s * _WHOLE:
            return None
        return max(left_s, _GIVE_BACK_S) if any(group.action == "give_back" for group in groups) else left_s

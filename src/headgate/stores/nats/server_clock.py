"""The server's clock, as far as it can be known from here: the server says what time it is, and that was said after we
asked and before we heard it.

A pure estimate: it is told what was said, and when by a clock of ours that must not jump. This module must not know how
the server is asked. Safe to share between threads.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DRIFT: Final = 10_000
"""Two clocks run apart by one part in so many, at most."""
EVERY_US: Final = 10_000_000
"""The server's clock is asked for again after this time, together with something else."""
FIRST: Final = 16
FIRST_EVERY_US: Final = 50_000
"""So often at first, and so soon."""


class _Bounds(NamedTuple):
    """Between which two values the server's clock is ahead of ours, in microseconds."""

    lowest_us: int
    highest_us: int
    ahead_us: int
    """The value that is taken."""
    learnt_us: int
    """When that was learnt, by our clock."""


class ServerClock:
    """An estimate of a server's clock. It changes no more than what is learnt makes it, so that time does not run
    backwards for nothing; where the server's clock was set, it follows.
    """

    def __init__(self) -> None:
        self._bounds: _Bounds | None = None
        self._asked_us = 0
        self._learnt = 0

    @property
    def is_known(self) -> bool:
        """Has the server said anything?"""
        return self._bounds is not None

    def is_due(self, local_us: int) -> bool:
        """Is it to be asked again? Often at first: the quickest answer is the most exact."""
        return local_us - self._asked_us >= (EVERY_US if self._learnt >= FIRST else FIRST_EVERY_US)

    def asked(self, local_us: int) -> None:
        """The server is being asked."""
        self._asked_us = local_us

    def learn(self, server_us: int, asked_us: int, heard_us: int) -> None:
        """Learn the server's time, which it said between two instants of our clock."""
        lowest_us, highest_us = server_us - heard_us, server_us - asked_us
        before = self._bounds
        self._asked_us = heard_us
        self._learnt += 1
        if before is None:
            self._bounds = _Bounds(lowest_us, highest_us, (lowest_us + highest_us) // 2, heard_us)
            return
        apart_us = max(0, heard_us - before.learnt_us) // DRIFT + 1
        narrower = max(lowest_us, before.lowest_us - apart_us), min(highest_us, before.highest_us + apart_us)
        if narrower[0] <= narrower[1]:
            lowest_us, highest_us = narrower
        ahead_us = min(max(before.ahead_us, lowest_us), highest_us)
        self._bounds = _Bounds(lowest_us, highest_us, ahead_us, heard_us)

    def now_us(self, local_us: int) -> int:
        """The server's time at an instant of our clock, which it has told us before."""
        assert self._bounds is not None
        return local_us + self._bounds.ahead_us

    def margin_us(self) -> int:
        """How far that may be from the truth."""
        return 0 if self._bounds is None else self._bounds.highest_us - self._bounds.lowest_us

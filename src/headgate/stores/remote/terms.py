"""The terms on which all servers of a store are asked, and the things learnt from their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from headgate.breaker import DEFAULT, Breaker
from headgate.clock import Clock, system_clock
from headgate.decision import Answer, Decision
from headgate.denials import DenialMemory
from headgate.errors import InvalidUse, StoreOutage
from headgate.hits import Group

MAX_REMEMBERED: Final = 60
"""The longest that a denial may be remembered, in seconds."""
_MAX_SKEW_US: Final = 1_000_000


class Learnt:
    """The denials of late, and how far the server's clock is from ours. Safe to share between threads and tasks.

    :param remember_denials: for how many seconds at most; 0 for not at all.
    :raises InvalidUse: if that is not usable.
    """

    def __init__(self, remember_denials: float = 1.0) -> None:
        if type(remember_denials) not in (int, float) or not 0 <= remember_denials <= MAX_REMEMBERED:
            raise InvalidUse(
                f"remember_denials is a number of seconds from 0 to {MAX_REMEMBERED}, not {remember_denials!r}"
            )
        self.denials = DenialMemory(int(remember_denials * 1_000_000)) if remember_denials else None
        self.clock: Clock | None = None
        """Decides in place of the server's clock, in tests."""
        self._skew_us = 0

    def use_clock(self, clock: Clock) -> None:
        """Decide by `clock` instead of the server's, for tests."""
        self.clock = clock
        self.clear()
        if self.denials is not None:
            self.denials.clock = clock

    def clear(self) -> None:
        """Forget what was denied."""
        if self.denials is not None:
            self.denials.clear()

    def near_us(self) -> int:
        """A guess of the server's time. It finds calendar windows, and never decides."""
        return system_clock() + self._skew_us if self.clock is None else self.clock()

    def now_us(self) -> int | None:
        """The time, by the clock that decides in place of the server's; None if that decides itself."""
        return None if self.clock is None else self.clock()

    def mark(self) -> tuple[int, int]:
        """When something is sent, as `DenialMemory.learn` wants to know it."""
        return (0, 0) if self.denials is None else (self.denials.clock(), self.denials.forgettings)

    def learn(self, groups: Sequence[Group], answers: Sequence[Answer], mark: tuple[int, int]) -> None:
        """Remember what was denied, and what the server's clock says."""
        denials = self.denials
        if denials is not None:
            for answer in answers:
                if not isinstance(answer, StoreOutage) and not answer.allowed:
                    denials.learn(answer, *mark)
            denials.forget(groups)
        first = answers[0]
        if type(first) is Decision and self.clock is None and not first.group.hits[0].limit.is_plain:
            skew_us = first.now_us - system_clock()
            if abs(skew_us - self._skew_us) > _MAX_SKEW_US:
                self._skew_us = skew_us

    def forget(self, groups: Sequence[Group]) -> None:
        """Forget what groups that give back have undone: they may have reached the server, though no answer came."""
        if self.denials is not None:
            self.denials.forget(groups)


class Terms:
    """The options that all servers of a store have in common.

    :param timeout: the deadline of a round trip, in seconds.
    :param coalesce: let calls that come while a round trip is under way go together in the next one.
    :param remember_denials: as `Learnt` takes it.
    :param breaker: when to stop asking a server that fails; False for never.
    :raises InvalidUse: if one of them is not usable.
    """

    def __init__(
        self,
        *,
        timeout: float = 0.25,
        coalesce: bool = True,
        remember_denials: float = 1.0,
        breaker: Breaker | Literal[False] = DEFAULT,
    ) -> None:
        if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
            raise InvalidUse(f"timeout is a number of seconds above 0, not {timeout!r}")
        if not isinstance(breaker, Breaker) and breaker is not False:
            raise InvalidUse(
                f"breaker is a Breaker, such as Breaker(failures=5, open_for=0.5), or False, not {breaker!r}"
            )
        self.timeout_s: Final = timeout
        self.coalesces: Final = coalesce
        self.breaker: Final = breaker
        self.learnt: Final = Learnt(remember_denials)
        self.options: Final = {
            "timeout": timeout,
            "coalesce": coalesce,
            "remember_denials": remember_denials,
            "breaker": breaker,
        }
        """The arguments that make them anew."""

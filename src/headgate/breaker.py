"""The breaker of a server: after some failures in a row, the server is not asked for a while, and nobody waits for it.
Then one caller at a time tries, and the first success closes the breaker.

Closed: everybody may ask. Open: nobody may, for `open_for` seconds. Half-open: one caller probes, and nobody else may
ask; if that fails, the breaker is open again.

A pure state machine: it is given a clock, and does no I/O. It may be shared between threads, event loops and signal
handlers, and needs no lock: a state has one successor, which is said in one step. This module must not know what is
asked, nor of whom.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from headgate.clock import MICROSECONDS_PER_SECOND, Clock, monotonic_us
from headgate.errors import InvalidUse
from headgate.observer import BreakerState
from headgate.runtime.forks import begin_afresh_in_child

MAX_OPEN_FOR: Final = 3_600
"""The longest that a server may go unasked, in seconds."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop asking a server that fails, and for how long.

    :param failures: so many round trips in a row have to fail, by their deadline or otherwise.
    :param open_for: then it is not asked for this long, in seconds; after that, by one caller at a time, until it
        answers.
    :raises InvalidUse: if that is not usable.
    """

    failures: int = 5
    open_for: float = 0.5

    def __post_init__(self) -> None:
        if type(self.failures) is not int or self.failures < 1:
            raise InvalidUse(f"a breaker's failures is an integer of at least 1, not {self.failures!r}")
        if type(self.open_for) not in (int, float) or not 0 < self.open_for <= MAX_OPEN_FOR:
            raise InvalidUse(
                f"a breaker's open_for is a number of seconds above 0 and up to {MAX_OPEN_FOR}, not {self.open_for!r}"
            )


DEFAULT: Final = Breaker()


class State:
    """A state of a circuit, from its beginning to its end."""

    __slots__ = ("failures", "is_clean", "is_closed", "name", "next", "until_us")

    def __init__(self, name: BreakerState, until_us: int = 0) -> None:
        self.name: Final = name
        self.is_closed: Final = name == "closed"
        self.until_us: Final = until_us
        """Until when nobody else may ask, if it is not closed."""
        self.failures: Final = itertools.count(1)
        """Counts in one step."""
        self.is_clean = self.is_closed
        """Is it closed, and has nothing failed in it?"""
        self.next: Final[dict[str, State]] = {}
        """The state after this one. Whoever puts it there has changed the state."""


Changed = Callable[[BreakerState, BreakerState], object]
"""Is told the name of a state that has ended, and that of the one that has begun."""


class Circuit:
    """The breaker of one server, as it stands. A forked process begins closed.

    :param breaker: False never opens.
    :param probe_us: how long a probe may take, in microseconds. Nobody hears of one that is lost; then the next begins.
    :param clock: tells the time in microseconds; it must not jump.
    """

    def __init__(
        self,
        breaker: Breaker | Literal[False],
        *,
        probe_us: int,
        clock: Clock = monotonic_us,
        changed: Changed | None = None,
    ) -> None:
        self._failures = breaker.failures if breaker else float("inf")
        self._open_us = int(breaker.open_for * MICROSECONDS_PER_SECOND) if breaker else 0
        self._probe_us = probe_us
        self._clock = clock
        self._changed = changed
        self.begin()
        begin_afresh_in_child(self, Circuit.begin)

    def begin(self) -> None:
        """Begin closed."""
        self.state = State("closed")
        """The state now; for who is in a hurry to see that it `is_closed`."""

    def admit(self) -> State | None:
        """Say that the server is to be asked: what is returned is told how that ended. None: it must not be asked."""
        state = self._now()
        if state.is_closed:
            return state
        at_us = self._clock()
        probe = State("half-open", at_us + self._probe_us)
        return probe if at_us >= state.until_us and self._move(state, probe) else None

    def succeeded(self) -> None:
        """The server has answered."""
        state = self._now()
        if not state.is_clean:
            self._move(state, State("closed"))

    def failed(self, asked: State | None = None) -> None:
        """The server did not answer, or could not be reached. `asked` is what `admit` returned."""
        state = self._now()
        if state.is_closed:
            state.is_clean = False
            if next(state.failures) < self._failures:
                return
        elif state is not asked:  # it was asked before
            return
        self._move(state, State("open", self._clock() + self._open_us))

    def abandoned(self, asked: State | None) -> None:
        """Nobody will know how it ended. If it was a probe, the next one may begin."""
        if asked is not None and not asked.is_closed:
            self._move(asked, State("open", self._clock()))

    def opens_in_us(self) -> int:
        """In how many microseconds the next probe may begin, at the latest."""
        return max(0, self._now().until_us - self._clock())

    def _now(self) -> State:
        while (later := self.state.next.get("state")) is not None:  # whoever changed it has not come to write it down
            self.state = later
        return self.state

    def _move(self, state: State, later: State) -> bool:
        """Let a state end, if it has not ended by now."""
        if state.next.setdefault("state", later) is not later:
            return False
        self._now()
        if state.name != later.name and self._changed is not None:
            self._changed(state.name, later.name)
        return True

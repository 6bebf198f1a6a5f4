"""Is it true what a denial says of when to come back? Asked again at that instant, and a moment before.

There is no ideal to count against, only promises that are kept or not. Only libraries that tell a time take part, and
all of them wait at once, since each has its own key and most of the time nobody asks."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers import OURS, Contender, Entry, Quota
from benchmarks.schedules import KEY, Bench, Tick, label, sleep_until

QUOTA: Final = Quota(7, 1, 7)
"""A token takes 142,857 1/7 microseconds."""
ROUNDS: Final = 8
A_MOMENT_US: Final = 2_000

Teller = Callable[[Contender, Any], float]
"""From the answer that denied to the seconds that it tells."""


def _limits_tells(contender: Contender, _: Any) -> float:
    """It takes another round trip, as its documentation shows."""
    hit: Any = contender.call
    return float(hit.func.__self__.get_window_stats(hit.args[0], KEY).reset_time - time.time())


TELLERS: Final[dict[str, Teller]] = {
    OURS: lambda _, decision: float(decision.retry_after),
    "limits": _limits_tells,
    "throttled-py": lambda _, result: float(result.state.retry_after),
    "distributed-rate-limiter": lambda _, answer: float(answer[1].retry_after),
}


@dataclass
class Promises:
    """What one library told, and what came of it."""

    entry: Entry
    contender: Contender
    then: int = 0
    """How often it was asked at the instant that it told."""
    kept: int = 0
    """How often it admitted then."""
    before: int = 0
    """How often it was asked a moment before that."""
    exact: int = 0
    """How often it still denied."""
    told_s: float = 0.0
    """What it told last."""

    rounds: int = 0

    @property
    def is_kept(self) -> bool:
        return self.kept == self.then and self.exact == self.before


Step = tuple[int, int, Callable[[], "Step | None"]]
"""At an instant, in the order of asking, do something that may have a next step."""


def tellers(entries: Sequence[Entry]) -> list[Entry]:
    """Those that tell a time."""
    return [entry for entry in entries if entry.library in TELLERS]


def told(bench: Bench, entries: Sequence[Entry], tick: Tick) -> list[Promises]:
    """Ask all that tell a time, until each has told it so many times."""
    bench.empty()
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        promises = []
        for entry in tellers(entries):
            (contender,) = stack.enter_context(bench.opened(entry, QUOTA))
            promises.append(Promises(entry, contender))
        steps: list[Step] = [(0, next(numbers), _Asking(each, numbers, tick).until_denied) for each in promises]
        while steps:
            at_us, _, step = heapq.heappop(steps)
            sleep_until(at_us / 1e6)
            following = step()
            if following is not None:
                heapq.heappush(steps, following)
        return promises


class _Asking:
    """One library's turns: until it denies; a moment before the time that it told; at that time."""

    def __init__(self, promises: Promises, numbers: itertools.count[int], tick: Tick) -> None:
        self._promises = promises
        self._contender = promises.contender
        self._numbers = numbers
        self._tick = tick
        self._surely_early_us = self._due_us = 0

    def _ask(self) -> tuple[int, Any, int]:
        before = time.time_ns() // 1_000
        answer = self._contender.call(KEY)
        return before, answer, -(-time.time_ns() // 1_000)

    def until_denied(self) -> Step | None:
        for _ in range(10 * QUOTA.tokens):
            before, answer, after = self._ask()
            if not self._contender.is_admitted(answer):
                break
        else:
            return None  # it does not limit
        told_s = TELLERS[self._promises.entry.library](self._contender, answer)
        self._promises.told_s = told_s
        told_us = math.ceil(round(told_s * 1e6, 3))
        self._surely_early_us, self._due_us = before + told_us, after + told_us
        if told_us > 2 * A_MOMENT_US:
            return self._surely_early_us - A_MOMENT_US, next(self._numbers), self.a_moment_before
        return self._due_us, next(self._numbers), self.at_that_time

    def a_moment_before(self) -> Step | None:
        _, answer, after = self._ask()
        is_admitted = self._contender.is_admitted(answer)
        if after < self._surely_early_us:  # else we came too late for it to mean anything
            self._promises.before += 1
            self._promises.exact += not is_admitted
        if is_admitted:  # too long a time was told; nothing is left to be seen at its end
            return self._again()
        return self._due_us, next(self._numbers), self.at_that_time

    def at_that_time(self) -> Step | None:
        _, answer, _ = self._ask()
        self._promises.then += 1
        self._promises.kept += self._contender.is_admitted(answer)
        return self._again()

    def _again(self) -> Step | None:
        self._promises.rounds += 1
        self._tick(label(self._promises.entry))
        return self.until_denied() if self._promises.rounds < ROUNDS else None

"""What we want to reach, as ratios within one run, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks import distinct, latency, server_cost
from benchmarks.floors import BARE_SOCKET, CLIENT
from benchmarks.measure import Column, Row, Table, ratio
from benchmarks.peers import OURS

TABLES = dict[str, Table]
DEFAULT: Final = "token bucket"


class Goal(NamedTuple):
    """A ratio that is to be at least, or at most, so much."""

    what: str
    table: str
    measure: Callable[[Table], float | None]
    bound: float
    at_least: bool = True

    def reached(self, measured: float) -> bool:
        return measured >= self.bound if self.at_least else measured <= self.bound

    @property
    def aim(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}×"


class Outcome(NamedTuple):
    """A goal, what was measured (None: nothing was), and whether that is enough."""

    goal: Goal
    measured: float | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "reached" if self.goal.reached(self.measured) else "not reached"


def _own(table: Table, algorithm: str = DEFAULT) -> Row | None:
    row = table.row(OURS, algorithm)
    return None if row.failure else row


def to_best_peer(algorithm: str = DEFAULT, column: Column | None = None) -> Callable[[Table], float | None]:
    """Our row against the fastest or leanest peer."""

    def measure(table: Table) -> float | None:
        own = _own(table, algorithm)
        return None if own is None else table.against_best_peer(own, column)

    return measure


def to_best_of_each_kind(table: Table) -> float | None:
    """The least of our algorithms' rows against the fastest peer with the same algorithm."""
    owns = [row for row in table.measured if row.library == OURS]
    ratios = [found for row in owns if (found := table.against_best_of_kind(row)) is not None]
    return min(ratios, default=None)


def to_hot_key(table: Table) -> float | None:
    """Our calls for keys that are asked for once, against those for one hot key."""
    own = _own(table)
    return None if own is None else own.median(distinct.SHARE.name)


def to_unleased(table: Table) -> float | None:
    """Our row with a lease against the one without."""
    leased, own = _own(table, f"{DEFAULT}, lease=True"), _own(table)
    return None if leased is None or own is None else ratio(leased, own, table.columns[0].name)


def to_row(library: str, algorithm: str, column: Column | None = None) -> Callable[[Table], float | None]:
    """Our row against one other."""

    def measure(table: Table) -> float | None:
        own, other = _own(table), table.row(library, algorithm)
        return None if own is None or other.failure else ratio(own, other, (column or table.columns[0]).name)

    return measure


def to_library(library: str) -> Callable[[Table], float | None]:
    """Our row against the fastest of one library."""

    def measure(table: Table) -> float | None:
        own = _own(table)
        others = [row for row in table.measured if row.library == library]
        return None if own is None or not others else ratio(own, others[0], table.columns[0].name)

    return measure


IN_MEMORY: Final = {"known keys": "memory", "random keys": "memory-random", "new keys": "memory-new"}
ONCE: Final = {"64 tasks": "distinct-64", "one blocking caller": "distinct-sync"}

GOALS: Final = (
    Goal("64 tasks: the fastest peer's calls per second", "async-64", to_best_peer(), 10),
    Goal("512 tasks: the fastest peer's calls per second", "async-512", to_best_peer(), 15),
    Goal("16 threads: the fastest peer's calls per second", "threads-16", to_best_peer(), 4),
    Goal("one blocking caller: the fastest peer's calls per second", "sync", to_best_peer(), 1.3),
    Goal(
        "one blocking caller: the bare socket's calls per second",
        "sync",
        to_row(BARE_SOCKET.library, BARE_SOCKET.algorithm),
        0.8,
    ),
    Goal("an attack, 64 tasks: the fastest peer's calls per second", "attack", to_best_peer(), 50),
    Goal(
        "one hot key, leased, 64 tasks: the fastest peer's calls per second",
        "hot-key",
        to_best_peer(f"{DEFAULT}, lease=True"),
        100,
    ),
    Goal("in memory: the calls per second of `limits`", "memory", to_library("limits"), 5),
    *(
        goal
        for what, table in IN_MEMORY.items()
        for goal in (
            Goal(f"in memory, {what}: the fastest peer's calls per second", table, to_best_peer(), 3),
            Goal(
                f"in memory, {what}: those of the fastest peer with the same algorithm, for each of ours",
                table,
                to_best_of_each_kind,
                2,
            ),
        )
    ),
    *(
        goal
        for who, table in ONCE.items()
        for goal in (
            Goal(f"keys asked once, {who}: one hot key's calls per second", table, to_hot_key, 0.8),
            Goal(f"keys asked once, leased, {who}: the calls per second without a lease", table, to_unleased, 0.8),
        )
    ),
    Goal(
        "64 tasks: the server's time for a one-key script",
        server_cost.MANY_TASKS.name,
        to_row(CLIENT.library, CLIENT.algorithm),
        0.6,
        at_least=False,
    ),
    Goal("the leanest peer's bytes for a key", "bytes", to_best_peer(), 1, at_least=False),
    Goal(
        "one task: the same client's wait for a one-key script (p50)",
        latency.ONE_TASK.name,
        to_row(CLIENT.library, CLIENT.algorithm),
        1.25,
        at_least=False,
    ),
    Goal(
        "64 tasks: the shortest wait of a peer (p99)",
        latency.MANY_TASKS.name,
        to_best_peer(column=latency.P99),
        1,
        at_least=False,
    ),
)


def outcomes(tables: TABLES) -> list[Outcome]:
    """Each goal whose table was measured."""
    return [Outcome(goal, goal.measure(tables[goal.table])) for goal in GOALS if goal.table in tables]

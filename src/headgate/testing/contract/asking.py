"""How the contract asks a store, in both ways, and the limits that it asks by.

Limits last an hour, so that a server that forgets by a clock of its own is not asked about debts that it was right to
forget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

import pytest

from headgate.clock import ManualClock
from headgate.decision import Decision
from headgate.hits import Action, Group, Hit, Once
from headgate.limits import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores import Store

Ask = Callable[..., list[Decision]]
"""Puts groups to the store, in one batch."""

HOUR: Final = 3_600
HOUR_US: Final = 3_600_000_000

LIMITS: Final = {
    "token-bucket": TokenBucket(3, per=HOUR),
    "fixed-window": FixedWindow(3, per=HOUR),
    "calendar-window": FixedWindow(3, per="day", tz="Europe/Berlin"),
    "sliding-window": SlidingWindow(3, per=HOUR),
    "sliding-log": SlidingLog(3, per=HOUR),
    "concurrency": Concurrency(3, ttl=HOUR),
}
"""Three tokens of each kind."""

COUNTING: Final = {name: limit for name, limit in LIMITS.items() if not isinstance(limit, Concurrency)}
SPANNING: Final = {name: limit for name, limit in LIMITS.items() if not isinstance(limit, TokenBucket)}

all_kinds = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
kinds_with_instants = pytest.mark.parametrize("limit", SPANNING.values(), ids=SPANNING)
counting_kinds = pytest.mark.parametrize("limit", COUNTING.values(), ids=COUNTING)


def hit(limit: Limit, key: str = "key", name: str = "name", cost: int = 1, holder: str = "holder") -> Hit:
    """One hit."""
    return Hit(limit, key, name, cost, holder)


def spend(*hits: Hit, max_wait_us: int = 0) -> Group:
    """A group that spends."""
    return Group(hits, max_wait_us)


def peek(*hits: Hit) -> Group:
    """A group that only asks."""
    return Group(hits, 0, "peek")


def do(action: Action, one: Hit) -> Group:
    """A group of the other kinds."""
    return Group((one,), 0, action)


def give_back(decision: Decision, cost: int | None = None) -> Group:
    """A group that returns the cost of a decision's only hit, or a part of it."""
    (one,), (facts,) = decision.group.hits, decision.facts
    receipt = one.limit.receipt(facts, one.cost)
    return do("give_back", one._replace(cost=one.cost if cost is None else cost, receipt=receipt))


def once(group: Group, mark: str, until_us: int) -> Group:
    """A group like this that counts once."""
    return group._replace(once=Once(mark, until_us))


class Asking:
    """The fixtures of the contract."""

    clock_can_be_set: ClassVar[bool] = True

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, with nothing in it."""
        raise NotImplementedError("a subclass of StoreContract has a fixture named 'store'")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock that the store decides by."""
        if not self.clock_can_be_set:
            pytest.skip("the clock of this store cannot be set")
        return ManualClock()

    @pytest.fixture(params=["blocking", "awaited"])
    def ask(self, request: pytest.FixtureRequest, store: Store) -> Iterator[Ask]:
        """Asks the store, in each of the two ways."""
        if request.param == "blocking":
            yield lambda *groups: store.decide(groups)
            return
        with asyncio.Runner() as runner:
            yield lambda *groups: runner.run(store.decide_async(groups))
            runner.run(store.aclose())

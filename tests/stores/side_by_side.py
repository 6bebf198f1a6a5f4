"""Random operations on all stores side by side, by one clock: each decision is compared with the reference's.

python -m tests.stores.side_by_side [OPERATIONS] [SEED] [STORE ...]    (make side-by-side)

What is asked goes in batches, blocking and awaited in turn: hits of every algorithm, alone and in groups, far below
their limits and at them, with refunds, charges, renewals, waits and resets. Time goes forward by what matters to some
limit, and a little more or less. A difference is printed with all that led to it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from headgate import ManualClock, MemoryStore
from headgate.decision import Decision
from headgate.hits import Group, Hit, Once
from headgate.limits import Concurrency, FixedWindow, Limit, Penalty, SlidingLog, SlidingWindow, TokenBucket
from headgate.stores import Store
from headgate.stores.registry import open_store
from headgate.testing import use_clock
from tests.algorithms.reference import Reference
from tests.algorithms.strategies import START_US, span
from tests.clusters import own_cluster
from tests.nats_servers import own_nats
from tests.postgres_servers import own_postgres
from tests.sentinels import own_sentinels
from tests.servers import own_valkey

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
PATIENCE_S: Final = 20.0
KEYS: Final = [f"user:{number}" for number in range(40)] + ["naïve", "a b:{c}%", "*", "ip:2001:db8::/64"]
MOST_CHARGED: Final = 1_000


Make = Callable[[ManualClock], Store]
"""Makes an empty store that decides by this clock."""


def store_at(url: str, clock: ManualClock, **options: Any) -> Store:
    """A store that decides by a clock of ours."""
    return use_clock(open_store(url, timeout=PATIENCE_S, breaker=False, **options), clock)


class Traffic:
    """Draws operations, and remembers what was spent, so that it can be given back."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.clock = ManualClock(START_US)
        self.reference = Reference()
        self._lanes = [(f"limit {number}", self._limits(number)) for number in range(12)]
        self._spent: list[Hit] = []
        self._number = 0
        limits = [limit for _, choice in self._lanes for limit in choice]
        measures = {0, 1, SECOND_US} | {limit.period_us for limit in limits}
        measures |= {-(-limit.period_us // limit.rate) for limit in limits}
        self._measures = sorted(measures)

    def _limits(self, number: int) -> list[Limit]:
        """A limit; of token buckets, perhaps another that takes its place now and then. How much of an old window
        counts in a new one depends on when a store forgot it."""
        draw = self._random
        kind = number % 6

        def period_us() -> int:
            return draw.choice(
                [1_000, 500_000, SECOND_US, 2_333_333, 60 * SECOND_US, DAY_US, draw.randrange(10**6, 10**9)]
            )

        def one() -> Limit:
            rate = draw.choice([1, 2, 5, 10, 60, 97, 1_000, draw.randrange(1, 10_000)])
            if kind == 0:
                return TokenBucket(rate, span(period_us()), draw.choice([1, 3, rate, 2 * rate + 1]))
            if kind == 1 and draw.random() < 0.3:
                return FixedWindow(rate, draw.choice(["day", "week", "month"]), draw.choice(["UTC", "Europe/Berlin"]))
            if kind == 1:
                return FixedWindow(rate, span(period_us()))
            if kind == 2:
                return SlidingWindow(rate, span(max(period_us(), SECOND_US)))
            if kind == 3:
                return SlidingLog(min(rate, 100), span(period_us()))
            if kind == 4:
                return Concurrency(min(rate, 6), span(period_us()))
            return Penalty(draw.randrange(1, 5), span(period_us()), span(period_us()))

        return [one() for _ in range(draw.choice([1, 2]) if kind == 0 else 1)]

    def move(self) -> None:
        """Let time pass, or not."""
        if self._random.random() < 0.5:
            us = self._random.choice(self._measures) * self._random.choice([0, 1, 1, 2]) + self._random.randrange(-2, 3)
            self.clock.advance(max(0, min(us, DAY_US)) / SECOND_US)

    def groups(self) -> list[Group]:
        """Some groups, which go in one batch."""
        count = self._random.choice([1, 1, 1, 2, 3, 8, 20])
        return [self._group() for _ in range(count)]

    def expect(self, groups: list[Group]) -> list[Decision]:
        """What the reference answers."""
        decisions = []
        for group in groups:
            decision = self.reference.decide(group, self.clock())
            if decision.allowed and group.action == "spend":
                told = zip(group.hits, decision.facts, strict=True)
                self._spent += [hit._replace(receipt=hit.limit.receipt(facts, hit.cost)) for hit, facts in told]
                del self._spent[:-200]
            decisions.append(decision)
        return decisions

    def _hit(self, lane: int, key: str) -> Hit:
        draw = self._random
        name, choice = self._lanes[lane]
        limit = choice[0] if draw.random() < 0.9 else draw.choice(choice)
        cost = min(draw.choice([1, 1, 1, 1, 0, 2, 3, limit.capacity]), limit.capacity)
        self._number += 1
        return Hit(limit, key, name, cost, f"{self._number:x}.{limit.period_us}")

    def _group(self) -> Group:
        draw = self._random
        action = draw.choices(["spend", "peek", "give_back", "take", "renew", "forget"], [80, 4, 8, 3, 3, 2])[0]
        lanes = draw.sample(range(len(self._lanes)), draw.choice([1, 1, 1, 1, 2, 3]))
        key = draw.choice(KEYS)
        one = self._hit(lanes[0], key)
        if action == "give_back" and self._spent:
            hit = self._spent.pop(draw.randrange(len(self._spent)))
            return Group((hit._replace(cost=draw.choice([hit.cost, draw.randrange(hit.cost + 1)])),), 0, "give_back")
        if action == "renew":
            held = [hit for hit in self._spent if isinstance(hit.limit, Concurrency)]
            return Group((draw.choice(held),), 0, "renew") if held else Group((one,), 0, "peek")
        if action == "take" and not isinstance(one.limit, Concurrency):
            return Group((one._replace(cost=draw.randrange(MOST_CHARGED)),), 0, "take")
        if action == "forget":
            return Group((one,), 0, "forget")
        hits = tuple(self._hit(lane, key if draw.random() < 0.7 else draw.choice(KEYS)) for lane in lanes)
        if draw.random() < 0.2:
            hits = tuple(self._leaving(hit) for hit in hits)
        if action == "spend" and len({hit.key for hit in hits}) == 1 and draw.random() < 0.1:
            self._number += 1
            mark = f"request {draw.choice([self._number, self._number % 20])}"
            return Group(hits, 0, "spend", Once(mark, life_us=draw.choice([1, SECOND_US, DAY_US])))
        max_wait_us = draw.choice([0, 0, SECOND_US, DAY_US]) if len(hits) == 1 else 0
        return Group(hits, max_wait_us, "peek" if action == "peek" else "spend")

    def _leaving(self, hit: Hit) -> Hit:
        """The same hit, behind which tokens are to be left, of limits that have them."""
        if isinstance(hit.limit, (Concurrency, Penalty)):
            return hit
        return hit._replace(spare=self._random.randrange(hit.limit.capacity - hit.cost + 1))


class Difference(AssertionError):
    """A store answered something else than the reference."""


def agree(expected: Decision, answer: Decision) -> bool:
    """Is it the same decision, to the integer? A denial that is remembered knows of the limit alone that denied."""
    if answer.source == "memory_of_denial":
        return not expected.allowed and 0 < answer.retry_after_us <= expected.retry_after_us
    return (expected.allowed, expected.facts, expected.now_us) == (answer.allowed, answer.facts, answer.now_us)


def compare(
    stores: Mapping[str, Make], operations: int, seed: int, told: Callable[[int], None] = lambda _: None
) -> int:
    """Play traffic to each store, and say from time to time how many operations were compared, and in the end.

    :raises Difference: at the first that differs.
    """
    traffic = Traffic(seed)
    made = {name: make(traffic.clock) for name, make in stores.items()}
    done = batches = 0
    with asyncio.Runner() as runner:

        async def ask(store: Store, groups: list[Group]) -> list[Decision]:
            return await store.decide_async(groups)

        async def close(store: Store) -> None:
            await store.aclose()

        try:
            while done < operations:
                traffic.move()
                groups = traffic.groups()
                expected = traffic.expect(groups)
                batches += 1
                for name, store in made.items():
                    answers = runner.run(ask(store, groups)) if batches % 2 else store.decide(groups)
                    for group, one, other in zip(groups, expected, answers, strict=True):
                        if not agree(one, other):
                            raise Difference(
                                f"{name} answers {other.allowed}, {other.facts}, and the reference {one.allowed}, "
                                f"{one.facts}: {group} at {traffic.clock()}, after {done:,} operations with seed {seed}"
                            )
                done += len(groups)
                if batches % 500 == 0:
                    told(done)
        finally:
            for store in made.values():
                runner.run(close(store))
                store.close()
    return done


STORES: Final = ("memory", "SQLite", "Valkey", "NATS", "Cluster", "Sentinel", "PostgreSQL")


@contextmanager
def served(name: str) -> Iterator[Make]:
    """A store, on a server of its own."""
    options = {"hash_tag": "all"} if name == "Cluster" else {}
    with ExitStack() as opened:
        if name == "memory":
            yield MemoryStore
            return
        if name == "SQLite":
            url = f"sqlite:///{opened.enter_context(tempfile.TemporaryDirectory())}/limits.db"
        elif name == "Valkey":
            url = opened.enter_context(own_valkey()).url
        elif name == "NATS":
            url = opened.enter_context(own_nats()).url
        elif name == "Cluster":
            url = opened.enter_context(own_cluster()).url
        elif name == "Sentinel":  # where nobody is to be replaced, be the machine as busy as it may
            url = opened.enter_context(own_sentinels(down_after_ms=60_000)).url
        else:
            url = opened.enter_context(own_postgres(16)).url
        yield lambda clock: store_at(url, clock, prefix=f"side-by-side-{uuid.uuid4().hex}", **options)


@contextmanager
def every_store() -> Iterator[dict[str, Make]]:
    """All stores that there are, on servers of their own."""
    with ExitStack() as opened:
        yield {name: opened.enter_context(served(name)) for name in STORES}


def _compare_one(name: str, operations: int, seed: int, told: Any) -> None:
    """Compare one store with the reference, and tell how far it is, and what was wrong."""
    try:
        with served(name) as make:
            done = compare({name: make}, operations, seed, lambda done: told.put((name, done, None)))
        told.put((name, done, ""))
    except BaseException as error:
        told.put((name, 0, str(error) if isinstance(error, Difference) else traceback.format_exc()))


def main() -> int:
    operations = int(sys.argv[1].replace(",", "").replace("_", "")) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    stores = [name for name in STORES if name in sys.argv[3:]] or list(STORES)
    if not set(sys.argv[3:]) <= set(STORES):
        print(f"stores are {', '.join(STORES)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    console = Console(highlight=False)
    console.print(f"{operations:,} operations, seed {seed}; each store beside the reference, in a process of its own")
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    work = [context.Process(target=_compare_one, args=(name, operations, seed, told)) for name in stores]
    wrong, left = [], set(stores)
    columns = (TextColumn("{task.description:10}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars = {name: progress.add_task(name, total=operations) for name in stores}
        for each in work:
            each.start()
        while left:
            name, done, problem = told.get()
            progress.update(bars[name], completed=done)
            if problem is None:
                continue
            left.discard(name)
            progress.stop_task(bars[name])
            seconds = time.monotonic() - began
            console.print(
                f"{name}: " + (problem or f"{done:,} operations, no difference ({seconds:.0f} s)"), markup=False
            )
            if problem:
                wrong.append(name)
    for each in work:
        each.join()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
